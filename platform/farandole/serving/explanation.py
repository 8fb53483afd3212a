"""Explanation of a model that MLflow or a directory holds, recorded in the run that trained it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from farandole.bundle import Bundle, open_bundle
from farandole.errors import DataError, DatasetError, FarandoleError
from farandole.events import EventHandler, ignore_event
from farandole.explaining import ExplainedModel, Explainer, Explanation, open_explained, require_captum
from farandole.explaining.importance import Sample, named_metric
from farandole.explaining.report import Limits, Report, explain_model
from farandole.explaining.samples import sample_dataset, sample_file
from farandole.process.atomic import write_atomic
from farandole.serving.registry.runs import ALL_FIELDS, DATASET_MANIFEST, read_json, write_artifacts
from farandole.shards import Dataset
from farandole.tracking.model_store.bundles import FetchedBundle, fetch

if TYPE_CHECKING:
    from farandole.tracking.model_store.connection import Registry

FOLDER = "explanations"
REPORT = "report.json"
_RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class RecordedReport:
    """An explanation, and where it is.

    Args:
        report: The explanation.
        run_id: The MLflow run that holds it below `explanations/`; None if it was not recorded.
        folder: The directory that it was written to; None if it was not.
    """

    report: Report
    run_id: str | None
    folder: Path | None


def explain(
    model: str,
    limits: Limits,
    *,
    data: Path | None = None,
    folder: Path | None = None,
    run_code: bool = False,
    on_event: EventHandler = ignore_event,
) -> RecordedReport:
    """Explain a whole model, and record the explanation in its run.

    Args:
        model: A run's id, or a model as `farandole.serving.registry.fetch` takes it.
        limits: What it may cost.
        data: A file of rows. Default: the test split of the model's dataset.
        folder: A directory for the plots and the document. A model that has no run needs one.
        run_code: Whether code that the bundle carries may run.
        on_event: Receives warnings.

    Raises:
        DatasetError: There is neither a file nor the dataset that the model was trained on.
        UnavailableError: Captum is missing, or MLflow does not answer.
    """
    require_captum()
    fetched, bundle = _open(model, on_event)
    documents = _RunDocuments.read(fetched.run_id)
    explained = open_explained(bundle, run_code=run_code)
    if documents.statistics:
        explained = replace(explained, statistics=documents.statistics)
    if data is not None:
        sample, is_open = (
            sample_file(data, bundle.predictor(run_code=run_code), bundle.preprocessing, limits.rows),
            True,
        )
    else:
        sample, is_open = _find_sample(documents, explained, limits.rows)
    metric = named_metric(documents.metric, explained.label)
    report = explain_model(explained, sample, metric, replace(limits, shows_rows=is_open), name=bundle.name)
    return _record(report, documents, folder)


def explain_rows(
    model: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    target: str | None = None,
    run_code: bool = False,
    on_event: EventHandler = ignore_event,
) -> list[Explanation]:
    """Explain single predictions.

    Args:
        model: A run's id, or a model as `farandole.serving.registry.fetch` takes it.
        rows: Raw rows: column to value; the columns are those of the job's query.
        target: The class whose output is explained.
        run_code: Whether code that the bundle carries may run.
        on_event: Receives warnings.

    Raises:
        DataError: A row does not fit the model.
        ModelError: There is no such class.
        UnavailableError: Captum is missing, or MLflow does not answer.
    """
    require_captum()
    fetched, bundle = _open(model, on_event)
    explained = open_explained(bundle, run_code=run_code)
    statistics = _RunDocuments.read(fetched.run_id).statistics
    if statistics:
        explained = replace(explained, statistics=statistics)
    names = dict.fromkeys(name for row in rows for name in row)
    batch = bundle.predictor(run_code=run_code).raw_batch({name: [row.get(name) for row in rows] for name in names})
    return Explainer(explained).explain(batch, target)


def _open(model: str, on_event: EventHandler) -> tuple[FetchedBundle, Bundle]:
    torch.set_num_threads(1)  # blocks are small: threads would wait for each other longer than they compute
    is_run = _RUN_ID.fullmatch(model) is not None and not Path(model).exists()
    fetched = fetch(f"runs:/{model}/model" if is_run else model, on_event)
    return fetched, open_bundle(fetched.path)


@dataclass(frozen=True)
class _RunDocuments:
    """Documents of the run of a model.

    Args:
        registry: The store of the run.
        run_id: The run; None if there is none.
        job: All fields of its job.
        manifest: The manifest of its dataset.
    """

    registry: Registry | None
    run_id: str | None
    job: dict[str, Any]
    manifest: dict[str, Any]

    @classmethod
    def read(cls, run_id: str | None) -> _RunDocuments:
        if run_id is None:
            return cls(None, None, {}, {})
        from farandole.tracking.model_store.connection import Registry  # MLflow takes long to import

        registry = Registry()
        job, manifest = (read_json(registry, run_id, path) or {} for path in (ALL_FIELDS, DATASET_MANIFEST))
        return cls(registry, run_id, job, manifest)

    @property
    def statistics(self) -> dict[str, Any]:
        found: dict[str, Any] = self.manifest.get("statistics", {})
        return found

    @property
    def metric(self) -> str | None:
        metrics = (self.job.get("train") or {}).get("metrics")
        return metrics[0] if metrics else None


def _find_sample(documents: _RunDocuments, model: ExplainedModel, rows: int) -> tuple[Sample, bool]:
    """Return rows of the dataset that the model was trained on, and whether they may be shown.

    Raises:
        DatasetError: It is unknown, gone, or another one by now.
    """
    location = (documents.job.get("data") or {}).get("output")
    remedy = "give rows with --data FILE, a CSV or Parquet file with the columns of the job's query and its label"
    if location is None:
        raise DatasetError(f"the model does not say which dataset it was trained on; {remedy}")
    try:
        dataset = Dataset(location)
    except FarandoleError as error:
        raise DatasetError(f"{error}; or {remedy}") from error
    if dataset.manifest.columns != model.schema or dataset.manifest.digest != documents.manifest.get("digest"):
        raise DatasetError(f"{location}: was prepared again since the model was trained on it; {remedy}")
    sample = sample_dataset(dataset, rows)
    if sample is None:
        raise DatasetError(f"{location}: has neither test nor validation rows; {remedy}")
    return sample, dataset.manifest.encryption is None


def _record(report: Report, documents: _RunDocuments, folder: Path | None) -> RecordedReport:
    """Write the plots and the document into the run, and into a directory."""
    from farandole.explaining.plots import plot_report

    files = {**plot_report(report), REPORT: json.dumps(report.document, indent=1).encode()}
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                write_atomic(folder / name, content)
        except OSError as error:
            raise DataError(
                f"{folder}: cannot be written ({error.strerror or error}); choose another directory"
            ) from error
    if documents.registry is not None and documents.run_id is not None:
        write_artifacts(documents.registry, documents.run_id, FOLDER, files)
    return RecordedReport(report, documents.run_id, folder)
