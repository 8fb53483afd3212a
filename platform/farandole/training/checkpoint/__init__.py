"""Checkpoints: all that a training needs to go on, bit by bit, as if it had never stopped.

A checkpoint appears whole or not at all. `Saver` is what the trainer talks to; it asks all ranks for their part, copies
the state, and lets a thread write it to a `Shelf`, which knows which checkpoints there are and which of them to keep.
"""

from farandole.training.checkpoint.backends import open_backend, read_checkpoint
from farandole.training.checkpoint.controller import Checkpointable, CheckpointController
from farandole.training.checkpoint.manager import BestMetric, CheckpointManager
from farandole.training.checkpoint.weights import weights_digest

__all__ = [
    "BestMetric",
    "CheckpointController",
    "CheckpointManager",
    "Checkpointable",
    "open_backend",
    "read_checkpoint",
    "weights_digest",
]
