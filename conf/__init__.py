"""Configuration: the Hydra groups, their checks, and the sentences users read on a mistake."""
