"""Checkpoint benchmark: cost of asynchronous checkpoints for the training."""
