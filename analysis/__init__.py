"""Rank and sample-efficiency statistics, result files, figures and reports."""
