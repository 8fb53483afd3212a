"""Compression of a model: a new form, a table of what it costs and gains, and a refusal where it predicts worse."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from farandole.bundle import Bundle, add_form, open_bundle
from farandole.bundle.onnx_form import load_onnx
from farandole.errors import BundleError, DatasetError, RegistryError, UserError, explain_os_error
from farandole.events import EventHandler, StageStarted, format_metric, ignore_event
from farandole.process.atomic import atomic_directory
from farandole.serving.compression import int8 as int8_form
from farandole.serving.compression.measure import (
    FormMeasure,
    measure_form,
    primary_metric,
    read_rows,
    relative_drop,
)
from farandole.serving.registry import fetch, parse_model
from farandole.serving.registry.registration import register_bundle
from farandole.serving.registry.runs import ALL_FIELDS, read_json
from farandole.shards import Dataset
from farandole.tracking.model_store.bundles import FetchedBundle

DEFAULT_MAX_DROP = 0.01
_CALIBRATION_ROWS = 2048


@dataclass(frozen=True)
class Compression:
    """The outcome of a compression.

    Args:
        model: The model, as it was named.
        method: `int8 static` or `int8 dynamic`.
        metric: The metric that was compared, on the test split.
        before: The model in the form in which it is used by default.
        after: The new form.
        drop: By which share of its value the metric became worse; negative if it became better.
        max_drop: The largest drop that is accepted.
        output: The directory of the new bundle; None if none was asked for.
        registered: The version that was registered; None if none was asked for.
    """

    model: str
    method: str
    metric: str
    before: FormMeasure
    after: FormMeasure
    drop: float
    max_drop: float
    output: Path | None = None
    registered: str | None = None

    @property
    def accepted(self) -> bool:
        """True if the metric did not become worse by more than is accepted."""
        return self.drop <= self.max_drop

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        output = None if self.output is None else str(self.output)
        return {**asdict(self), "output": output, "accepted": self.accepted}


def compress_model(
    model: str,
    *,
    int8: str,
    output: str | Path | None = None,
    register: bool = False,
    max_drop: float = DEFAULT_MAX_DROP,
    dataset: str | None = None,
    on_event: EventHandler = ignore_event,
) -> Compression:
    """Add a form with weights of eight bits to a model's bundle.

    Args:
        model: A bundle's directory, `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `runs:/RUN_ID/model`.
        int8: `static`, calibrated with rows of the validation split, or `dynamic`.
        output: A new directory for the bundle with the additional form.
        register: Whether to add a version, with that bundle, to the registered model.
        max_drop: The largest accepted drop of the primary metric on the test split, as a share of its value. If it
            drops by more, nothing is written or registered, and the outcome is not `accepted`.
        dataset: The dataset directory. Default: where the model's job prepared it.
        on_event: Receives what is being done.

    Raises:
        UserError: An argument is wrong, or there is no such model.
        DatasetError: The dataset is gone, or is not the one that the model was trained on.
        BundleError: The model cannot be converted.
        UnavailableError: MLflow does not answer, or ONNX Runtime is not installed.
    """
    _check_arguments(model, int8, output, register=register, max_drop=max_drop)
    fetched = fetch(model, on_event)
    bundle = open_bundle(fetched.path)
    rows = _open_dataset(bundle, dataset or _dataset_of(model, fetched))
    on_event(StageStarted("compress", f"converting {model} to int8 ({int8})"))
    validation = read_rows(rows, "validation", _CALIBRATION_ROWS) if int8 == "static" else []
    with tempfile.TemporaryDirectory(prefix="farandole-compressed-") as scratch:
        file, draft = Path(scratch, int8_form.FILE), Path(scratch, "bundle")
        int8_form.quantize(bundle, int8, [features for features, _ in validation], file)
        on_event(StageStarted("compress", "measuring both forms on the test split"))
        found, tolerance = _compare(model, int8, bundle, file, rows, max_drop)
        if not found.accepted:
            return found
        shutil.copytree(bundle.path, draft)
        entry = {"file": int8_form.FILE, "method": int8, "tolerance": tolerance}
        add_form(draft, "int8", {int8_form.FILE: file}, entry)
        version = _register(fetched, draft, found) if register else None
        if output is not None:
            _publish(draft, Path(output))
    return replace(found, output=None if output is None else Path(output), registered=version)


def _check_arguments(model: str, int8: str, output: str | Path | None, *, register: bool, max_drop: float) -> None:
    if int8 not in int8_form.METHODS:
        raise UserError(f"--int8 {int8}: is not a method; the methods are {', '.join(int8_form.METHODS)}")
    if output is None and not register:
        raise UserError("models compress: names no destination; add -o DIR, --register, or both")
    if output is not None and Path(output).exists():
        raise UserError(f"{output}: exists already; name a new directory")
    if not 0 <= max_drop < 1:
        raise UserError(f"--max-drop {max_drop:g}: is a share of the metric's value; use a number from 0 to below 1")
    if register and parse_model(model).name is None:
        raise UserError(
            f"--register: {model} is not a registered model; name models:/NAME/VERSION or models:/NAME@ALIAS"
        )


def _dataset_of(model: str, fetched: FetchedBundle) -> str:
    """Return the directory in which the job of a model prepared its dataset.

    Raises:
        RegistryError: The model's run is not known, or has no job.
    """
    if fetched.run_id is not None:
        from farandole.tracking.model_store.connection import Registry  # MLflow takes long to import

        job = read_json(Registry(), fetched.run_id, ALL_FIELDS) or {}
        location = (job.get("data") or {}).get("output")
        if location:
            return str(location)
    raise RegistryError(f"{model}: it is not known which dataset it was trained on; add --dataset DIR")


def _open_dataset(bundle: Bundle, directory: str) -> Dataset:
    """Return the dataset that a model was trained on.

    Raises:
        DatasetError: It has another preprocessing, so that the network would read other numbers.
    """
    dataset = Dataset(directory)
    if dataset.manifest.preprocessing != bundle.preprocessing.to_dict():
        raise DatasetError(
            f"{directory}: is not the dataset that the model was trained on, since its preprocessing differs; name the"
            " right one with --dataset, or train the model again"
        )
    return dataset


def _compare(
    model: str, method: str, bundle: Bundle, file: Path, dataset: Dataset, max_drop: float
) -> tuple[Compression, float]:
    """Measure the default form and the new one; return both with the largest difference of their outputs."""
    batches = read_rows(dataset, "test")
    predictor, form = bundle.predictor(), bundle.default_form
    metric, new = primary_metric(bundle.label), load_onnx(file)
    size = (bundle.path / bundle.model["forms"][form]["file"]).stat().st_size
    before = measure_form(form, size, predictor.outputs, predictor, batches)
    after = measure_form("int8", file.stat().st_size, new, predictor, batches)
    tolerance = max(float(np.abs(predictor.outputs(rows) - new(rows)).max()) for rows, _ in batches)
    drop = relative_drop(metric, before.metric, after.metric)
    return Compression(model, f"int8 {method}", metric, before, after, drop, max_drop), tolerance


def _publish(draft: Path, output: Path) -> None:
    try:
        with atomic_directory(output) as folder:
            shutil.copytree(draft, folder, dirs_exist_ok=True)
    except OSError as error:
        raise BundleError(explain_os_error(error, output)) from error


def _register(fetched: FetchedBundle, draft: Path, found: Compression) -> str:
    """Add a version with the compressed bundle; return its URI."""
    tags = {f"test.{found.metric}": repr(found.after.metric), "farandole.compression": found.method}
    text = (
        f"{found.method} of version {fetched.version}: {found.metric} {format_metric(found.after.metric)} instead of"
        f" {format_metric(found.before.metric)} on the test split"
    )
    return register_bundle(fetched, draft, tags, text)
