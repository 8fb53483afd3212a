"""Farandole: from raw tables to a registered model, with one job file.

    import farandole

    job = farandole.load_job("jobs/flights/job.yaml", ["train.epochs=2"])
    result = farandole.run(job)
    print(result.trained.training.metrics["test"])

Names are imported on first use, so that `import farandole` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names as in `_SOURCES`, for type checkers; a test compares them
    from farandole.api import (
        cancel as cancel,
    )
    from farandole.api import (
        init as init,
    )
    from farandole.api import (
        jobs as jobs,
    )
    from farandole.api import (
        logs as logs,
    )
    from farandole.api import (
        prepare as prepare,
    )
    from farandole.api import (
        retry as retry,
    )
    from farandole.api import (
        run as run,
    )
    from farandole.api import (
        scale as scale,
    )
    from farandole.api import (
        source_files as source_files,
    )
    from farandole.api import (
        status as status,
    )
    from farandole.api import (
        submit as submit,
    )
    from farandole.api import (
        sweep as sweep,
    )
    from farandole.api import (
        train as train,
    )
    from farandole.backends.protocol import JobStatus as JobStatus
    from farandole.backends.protocol import SubmittedJob as SubmittedJob
    from farandole.errors import (
        FarandoleError as FarandoleError,
    )
    from farandole.errors import (
        JobFailedError as JobFailedError,
    )
    from farandole.errors import (
        UnavailableError as UnavailableError,
    )
    from farandole.errors import (
        UserError as UserError,
    )
    from farandole.events import Event as Event
    from farandole.events import EventHandler as EventHandler
    from farandole.ingest.prepared import PreparedDataset as PreparedDataset
    from farandole.ingest.spark.session import start_spark as start_spark
    from farandole.launch.result import DatasetSummary as DatasetSummary
    from farandole.launch.result import TrainedModel as TrainedModel
    from farandole.launch.result import TrainingSummary as TrainingSummary
    from farandole.loading import (
        Augmentation as Augmentation,
    )
    from farandole.loading import (
        EvaluationLoader as EvaluationLoader,
    )
    from farandole.loading import (
        MixedLoader as MixedLoader,
    )
    from farandole.loading import (
        TrainingLoader as TrainingLoader,
    )
    from farandole.pages import dataset_page as dataset_page
    from farandole.pipeline import RunResult as RunResult
    from farandole.planning import Plan as Plan
    from farandole.planning import PlanStep as PlanStep
    from farandole.planning import plan as plan
    from farandole.serving.compression import (
        Compression as Compression,
    )
    from farandole.serving.compression import (
        FormMeasure as FormMeasure,
    )
    from farandole.serving.compression import (
        compress_model as compress_model,
    )
    from farandole.serving.registry import (
        FetchedBundle as FetchedBundle,
    )
    from farandole.serving.registry import (
        GateResult as GateResult,
    )
    from farandole.serving.registry import (
        ModelCardText as ModelCardText,
    )
    from farandole.serving.registry import (
        ModelComparison as ModelComparison,
    )
    from farandole.serving.registry import (
        ModelVersion as ModelVersion,
    )
    from farandole.serving.registry import (
        Promotion as Promotion,
    )
    from farandole.serving.registry import (
        RegisteredModel as RegisteredModel,
    )
    from farandole.serving.registry import (
        TraceStep as TraceStep,
    )
    from farandole.serving.registry import (
        compare_models as compare_models,
    )
    from farandole.serving.registry import (
        fetch_bundle as fetch_bundle,
    )
    from farandole.serving.registry import (
        list_models as list_models,
    )
    from farandole.serving.registry import (
        model_card as model_card,
    )
    from farandole.serving.registry import (
        plan_promotion as plan_promotion,
    )
    from farandole.serving.registry import (
        promote as promote,
    )
    from farandole.serving.registry import (
        show_model as show_model,
    )
    from farandole.serving.registry import (
        trace_model as trace_model,
    )
    from farandole.shards import Dataset as Dataset
    from farandole.spec import Job as Job
    from farandole.spec import load_job as load_job
    from farandole.spec import parse_job as parse_job
    from farandole.spec import save_job as save_job
    from farandole.sweeping.sweep import SweepResult as SweepResult
    from farandole.sweeping.trial import Trial as Trial
    from farandole.training.script_session import Checkpoint as Checkpoint
    from farandole.training.script_session import report as report

_SOURCES = {
    "Augmentation": "farandole.loading",
    "Checkpoint": "farandole.training.script_session",
    "Compression": "farandole.serving.compression",
    "Dataset": "farandole.shards",
    "DatasetSummary": "farandole.launch.result",
    "EvaluationLoader": "farandole.loading",
    "Event": "farandole.events",
    "EventHandler": "farandole.events",
    "FarandoleError": "farandole.errors",
    "FetchedBundle": "farandole.serving.registry",
    "FormMeasure": "farandole.serving.compression",
    "GateResult": "farandole.serving.registry",
    "Job": "farandole.spec",
    "JobFailedError": "farandole.errors",
    "JobStatus": "farandole.backends.protocol",
    "MixedLoader": "farandole.loading",
    "ModelCardText": "farandole.serving.registry",
    "ModelComparison": "farandole.serving.registry",
    "ModelVersion": "farandole.serving.registry",
    "Plan": "farandole.planning",
    "PlanStep": "farandole.planning",
    "PreparedDataset": "farandole.ingest.prepared",
    "Promotion": "farandole.serving.registry",
    "RegisteredModel": "farandole.serving.registry",
    "RunResult": "farandole.pipeline",
    "SubmittedJob": "farandole.backends.protocol",
    "SweepResult": "farandole.sweeping.sweep",
    "TraceStep": "farandole.serving.registry",
    "TrainedModel": "farandole.launch.result",
    "TrainingLoader": "farandole.loading",
    "TrainingSummary": "farandole.launch.result",
    "Trial": "farandole.sweeping.trial",
    "UnavailableError": "farandole.errors",
    "UserError": "farandole.errors",
    "cancel": "farandole.api",
    "compare_models": "farandole.serving.registry",
    "compress_model": "farandole.serving.compression",
    "dataset_page": "farandole.pages",
    "fetch_bundle": "farandole.serving.registry",
    "init": "farandole.api",
    "jobs": "farandole.api",
    "list_models": "farandole.serving.registry",
    "load_job": "farandole.spec",
    "logs": "farandole.api",
    "model_card": "farandole.serving.registry",
    "parse_job": "farandole.spec",
    "plan": "farandole.planning",
    "plan_promotion": "farandole.serving.registry",
    "prepare": "farandole.api",
    "promote": "farandole.serving.registry",
    "report": "farandole.training.script_session",
    "retry": "farandole.api",
    "run": "farandole.api",
    "save_job": "farandole.spec",
    "scale": "farandole.api",
    "show_model": "farandole.serving.registry",
    "source_files": "farandole.api",
    "start_spark": "farandole.ingest.spark.session",
    "status": "farandole.api",
    "submit": "farandole.api",
    "sweep": "farandole.api",
    "trace_model": "farandole.serving.registry",
    "train": "farandole.api",
}
"""The public names, and the module that each comes from."""

__all__ = sorted(_SOURCES)


def __getattr__(name: str) -> Any:
    if name not in _SOURCES:
        raise AttributeError(f"module 'farandole' has no attribute {name!r}")
    return getattr(importlib.import_module(_SOURCES[name]), name)


def __dir__() -> list[str]:
    return __all__
