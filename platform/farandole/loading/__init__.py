"""Shards to batches: the order of rows, who reads what, and the loader."""

from farandole.loading.assign import slice_of
from farandole.loading.augment import Augmentation
from farandole.loading.loader import Batch, EvaluationLoader, TrainingLoader
from farandole.loading.order import ALGORITHM_VERSION, EpochOrder

__all__ = ["ALGORITHM_VERSION", "Augmentation", "Batch", "EpochOrder", "EvaluationLoader", "TrainingLoader", "slice_of"]
