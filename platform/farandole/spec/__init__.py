"""What a user writes: the job file, checked before anything starts."""

from farandole.spec.augment import Augment, IdsAugment, ImageAugment, NumbersAugment, TokensAugment
from farandole.spec.backend import Backend, BackendName
from farandole.spec.base import Spec, home
from farandole.spec.candidate import with_overrides
from farandole.spec.checkpoint import Checkpoint
from farandole.spec.data import SPLITS, Data, Encryption, Shards, Split
from farandole.spec.expectations import Allowed, Condition, Expectation, Nulls, Pattern, Range, Rows, Unique
from farandole.spec.features import Bucket, Categorical, Clip, Feature, Image, Label, Numeric, Tensor, Text, Time
from farandole.spec.horovod import IDLE_CYCLE_VARIABLE, Horovod, horovod_variables
from farandole.spec.hosts import Hosts, parse_host
from farandole.spec.job import Job
from farandole.spec.job_file import load_job, parse_job
from farandole.spec.privacy import Allow, Drop, Encrypt, Generalise, KeyReference, Mask, Policy, Privacy, Pseudonymise
from farandole.spec.resources import Resources
from farandole.spec.save import save_job
from farandole.spec.sources import (
    CsvSource,
    ImageSource,
    JsonSource,
    ParquetSource,
    RecordSource,
    RowSource,
    Source,
    split_struct_fields,
)
from farandole.spec.ssh import Ssh
from farandole.spec.sweep import Dimension, Sweep
from farandole.spec.time_pattern import MONTHS, time_regex
from farandole.spec.tracking import Tracking
from farandole.spec.train import (
    METRICS,
    EarlyStopping,
    Ema,
    Model,
    Optimizer,
    OptimizerName,
    Schedule,
    Train,
    is_function_reference,
    metric_direction,
)

__all__ = [
    "IDLE_CYCLE_VARIABLE",
    "METRICS",
    "MONTHS",
    "SPLITS",
    "Allow",
    "Allowed",
    "Augment",
    "Backend",
    "BackendName",
    "Bucket",
    "Categorical",
    "Checkpoint",
    "Clip",
    "Condition",
    "CsvSource",
    "Data",
    "Dimension",
    "Drop",
    "EarlyStopping",
    "Ema",
    "Encrypt",
    "Encryption",
    "Expectation",
    "Feature",
    "Generalise",
    "Horovod",
    "Hosts",
    "IdsAugment",
    "Image",
    "ImageAugment",
    "ImageSource",
    "Job",
    "JsonSource",
    "KeyReference",
    "Label",
    "Mask",
    "Model",
    "Nulls",
    "NumbersAugment",
    "Numeric",
    "Optimizer",
    "OptimizerName",
    "ParquetSource",
    "Pattern",
    "Policy",
    "Privacy",
    "Pseudonymise",
    "Range",
    "RecordSource",
    "Resources",
    "RowSource",
    "Rows",
    "Schedule",
    "Shards",
    "Source",
    "Spec",
    "Split",
    "Ssh",
    "Sweep",
    "Tensor",
    "Text",
    "Time",
    "TokensAugment",
    "Tracking",
    "Train",
    "Unique",
    "home",
    "horovod_variables",
    "is_function_reference",
    "load_job",
    "metric_direction",
    "parse_host",
    "parse_job",
    "save_job",
    "split_struct_fields",
    "time_regex",
    "with_overrides",
]
