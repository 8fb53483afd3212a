"""Evaluation of a network on a whole split: metrics, early stopping, plots."""
