"""The job file, validated before anything starts.

One module for each part of the job file, and five for the file as a whole (`job`, `job_file`, `overrides`, `shorthand`,
`validation_errors`): hence 19 files.
"""

from farandole.spec.augment import Augment, IdsAugment, ImageAugment, NumbersAugment, TokensAugment
from farandole.spec.backend import Backend, BackendName, Ssh
from farandole.spec.base import Spec
from farandole.spec.data import (
    SPLITS,
    Allowed,
    Condition,
    Data,
    Encryption,
    Expectation,
    Nulls,
    Pattern,
    Range,
    Rows,
    Shards,
    Split,
    Unique,
)
from farandole.spec.features import Bucket, Categorical, Clip, Feature, Image, Label, Numeric, Tensor, Text, Time
from farandole.spec.horovod import IDLE_CYCLE_VARIABLE, Horovod, horovod_variables
from farandole.spec.job import Job
from farandole.spec.job_file import load_job, parse_job, save_job
from farandole.spec.overrides import with_overrides
from farandole.spec.privacy import Allow, Drop, Encrypt, Generalise, KeyReference, Mask, Policy, Privacy, Pseudonymise
from farandole.spec.resources import Hosts, Resources, parse_host
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
from farandole.spec.sweep import Dimension, Sweep
from farandole.spec.time_pattern import MONTHS, time_regex
from farandole.spec.tracking import Tracking
from farandole.spec.train import (
    METRICS,
    Checkpoint,
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
