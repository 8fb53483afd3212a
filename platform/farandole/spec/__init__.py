"""What a user writes: the job file, checked before anything starts."""

from farandole.spec.augment import Augment, IdsAugment, ImageAugment, NumbersAugment
from farandole.spec.base import Spec, home, is_remote
from farandole.spec.data import SPLITS, Data, Shards, Split, group_of
from farandole.spec.feature import Categorical, Clip, Feature, Label, Numeric, Time
from farandole.spec.job import Job
from farandole.spec.load import load_job, parse_job
from farandole.spec.source import CsvSource, ParquetSource, Source
from farandole.spec.train import METRICS, Checkpoint, Model, Optimizer, Resources, Schedule, Tracking, Train

__all__ = [
    "METRICS",
    "SPLITS",
    "Augment",
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
    "Time",
    "Tracking",
    "Train",
    "group_of",
    "home",
    "is_remote",
    "load_job",
    "parse_job",
]
