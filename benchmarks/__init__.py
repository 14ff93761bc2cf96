"""Speed, as a ratio against a baseline in the same run (``python -m benchmarks``); the study."""
