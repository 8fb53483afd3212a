"""From shards to batches: the order of rows, the slice of each rank, and the loaders."""

from farandole.loading.augment import Augmentation
from farandole.loading.batch import Batch
from farandole.loading.evaluation import EvaluationLoader
from farandole.loading.loader import TrainingLoader, Transform
from farandole.loading.mixing import JoinedLoader, MixedLoader
from farandole.loading.order import ALGORITHM_VERSION, EpochOrder
from farandole.loading.slicing import slice_bounds

__all__ = [
    "ALGORITHM_VERSION",
    "Augmentation",
    "Batch",
    "EpochOrder",
    "EvaluationLoader",
    "JoinedLoader",
    "MixedLoader",
    "TrainingLoader",
    "Transform",
    "slice_bounds",
]
