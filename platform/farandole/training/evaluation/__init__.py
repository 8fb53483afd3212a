"""Evaluation of a network on a whole split, and what follows from it: metrics, early stopping, plots."""
