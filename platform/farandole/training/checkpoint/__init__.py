"""Checkpoints: all that a training needs to go on, bit by bit, as if it had never stopped.

A checkpoint appears whole or not at all. `Saver` is what the trainer talks to; it asks all ranks for their part, copies
the state, and lets a thread write it to a `Shelf`, which knows which checkpoints there are and which of them to keep.
"""

from farandole.training.checkpoint.saver import Resumable, Saver
from farandole.training.checkpoint.shelf import BestBy, Shelf
from farandole.training.checkpoint.stores import read_checkpoint, store_in
from farandole.training.checkpoint.weights import weights_digest

__all__ = ["BestBy", "Resumable", "Saver", "Shelf", "read_checkpoint", "store_in", "weights_digest"]
