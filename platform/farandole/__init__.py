"""Farandole: from raw tables to a served model, by one job file.

    import farandole

    job = farandole.load_job("jobs/flights/job.yaml", ["train.epochs=2"])
    finished = farandole.run(job)
    print(finished.trained.training["metrics"]["test"])

Names are imported when they are first used, so that `import farandole` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farandole.api import (
        RunResult,
        cancel,
        jobs,
        logs,
        prepare,
        retry,
        run,
        scale,
        source_files,
        status,
        submit,
        sweep,
        train,
    )
    from farandole.backends.protocol import JobStatus, SubmittedJob
    from farandole.errors import FarandoleError, JobFailedError, UserError
    from farandole.ingest.spark.session import start_spark
    from farandole.loading import Augmentation, EvaluationLoader, TrainingLoader
    from farandole.pages import dataset_page
    from farandole.planning import plan
    from farandole.shards import Dataset
    from farandole.spec import Job, load_job, parse_job, save_job

_HOMES = {
    "Augmentation": "farandole.loading",
    "Dataset": "farandole.shards",
    "EvaluationLoader": "farandole.loading",
    "FarandoleError": "farandole.errors",
    "RunResult": "farandole.api",
    "Job": "farandole.spec",
    "JobFailedError": "farandole.errors",
    "JobStatus": "farandole.backends.protocol",
    "MixedLoader": "farandole.loading",
    "SubmittedJob": "farandole.backends.protocol",
    "TrainingLoader": "farandole.loading",
    "UserError": "farandole.errors",
    "cancel": "farandole.api",
    "dataset_page": "farandole.pages",
    "jobs": "farandole.api",
    "load_job": "farandole.spec",
    "logs": "farandole.api",
    "parse_job": "farandole.spec",
    "plan": "farandole.planning",
    "prepare": "farandole.api",
    "retry": "farandole.api",
    "run": "farandole.api",
    "save_job": "farandole.spec",
    "scale": "farandole.api",
    "source_files": "farandole.api",
    "start_spark": "farandole.ingest.spark.session",
    "status": "farandole.api",
    "submit": "farandole.api",
    "sweep": "farandole.api",
    "train": "farandole.api",
}

__all__ = [
    "Augmentation",
    "Dataset",
    "EvaluationLoader",
    "FarandoleError",
    "Job",
    "JobFailedError",
    "JobStatus",
    "MixedLoader",
    "RunResult",
    "SubmittedJob",
    "TrainingLoader",
    "UserError",
    "cancel",
    "dataset_page",
    "jobs",
    "load_job",
    "logs",
    "parse_job",
    "plan",
    "prepare",
    "retry",
    "run",
    "save_job",
    "scale",
    "source_files",
    "start_spark",
    "status",
    "submit",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'farandole' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
