"""Evaluation after each epoch, early stopping and plots."""
