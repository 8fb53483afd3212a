"""What a user writes: the job file, checked before anything starts."""

from farandole.spec.augment import Augment, IdsAugment, ImageAugment, NumbersAugment
from farandole.spec.base import Spec, home, is_remote
from farandole.spec.data import SPLITS, Data, Shards, Split
from farandole.spec.feature import Bucket, Categorical, Clip, Feature, Label, Numeric, Tensor, Time
from farandole.spec.job import Job
from farandole.spec.load import load_job, parse_job
from farandole.spec.save import save_job
from farandole.spec.source import CsvSource, ParquetSource, Source
from farandole.spec.train import METRICS, Checkpoint, Model, Optimizer, Resources, Schedule, Tracking, Train

__all__ = [
    "METRICS",
    "SPLITS",
    "Augment",
    "Bucket",
    "Categorical",
    "Checkpoint",
    "Clip",
    "CsvSource",
    "Data",
    "Feature",
    "IdsAugment",
    "ImageAugment",
    "Job",
    "Label",
    "Model",
    "NumbersAugment",
    "Numeric",
    "Optimizer",
    "ParquetSource",
    "Resources",
    "Schedule",
    "Shards",
    "Source",
    "Spec",
    "Split",
    "Tensor",
    "Time",
    "Tracking",
    "Train",
    "home",
    "is_remote",
    "load_job",
    "parse_job",
    "save_job",
]
