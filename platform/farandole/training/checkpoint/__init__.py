"""Checkpoints: everything that a training needs to resume, bit by bit, as if it had never stopped.

A checkpoint appears complete or not at all. The trainer uses the `CheckpointController`, which asks all ranks for their
part, copies the state, and lets a thread pass it to the `CheckpointManager`, which knows the existing checkpoints and
decides which of them to keep. A `CheckpointBackend` stores them in a directory or an object store.
"""

from farandole.training.checkpoint.backends import open_backend, read_checkpoint
from farandole.training.checkpoint.controller import Checkpointable, CheckpointController
from farandole.training.checkpoint.format import weights_digest
from farandole.training.checkpoint.manager import BestMetric, CheckpointManager

__all__ = [
    "BestMetric",
    "CheckpointController",
    "CheckpointManager",
    "Checkpointable",
    "open_backend",
    "read_checkpoint",
    "weights_digest",
]
