"""Predictions for files of rows, compared with scripts that a person would write."""
