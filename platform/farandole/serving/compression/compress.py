"""Compression of a model: a smaller one, a table of what it costs and gains, and a refusal where it predicts worse."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
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
from farandole.serving.compression.pruned import check_share, prune_and_train, prune_at_once
from farandole.serving.registry import fetch, parse_model
from farandole.serving.registry.registration import register_bundle
from farandole.serving.registry.runs import ALL_FIELDS, read_json
from farandole.shards import Dataset
from farandole.tracking.model_store.bundles import FetchedBundle

DEFAULT_MAX_DROP = 0.01
DEFAULT_EPOCHS = 3
_CALIBRATION_ROWS = 2048


@dataclass(frozen=True)
class Compression:
    """The outcome of a compression.

    Args:
        model: The model, as it was named.
        method: `int8 static`, `int8 dynamic`, `pruned 50%` or `distilled`.
        metric: The metric that was compared, on the test split.
        before: The model in the form in which it is used by default.
        after: The new form, or the new model.
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


@dataclass(frozen=True)
class Way:
    """One way to make a model smaller; one of `int8`, `prune` and `student` is set.

    Args:
        int8: Weights of eight bits: `static`, calibrated with rows of the validation split, or `dynamic`.
        prune: The share of the weights in matrices that become 0.
        epochs: For `prune`: epochs in which the remaining weights are trained; 0: they stay as they are.
        student: A model that was trained with this one as its teacher (`train.distill`).
    """

    int8: str | None = None
    prune: float | None = None
    epochs: int = DEFAULT_EPOCHS
    student: str | None = None

    @property
    def method(self) -> str:
        """Its name in tables."""
        if self.int8 is not None:
            return f"int8 {self.int8}"
        return "distilled" if self.prune is None else f"pruned {self.prune:.4g}"


@dataclass(frozen=True)
class _Made:
    """A smaller model: its bundle, the form to measure, and the run that trained it if it is not the model's own."""

    path: Path
    form: str
    run_id: str | None = None


def compress_model(
    model: str,
    *,
    int8: str | None = None,
    prune: float | None = None,
    epochs: int = DEFAULT_EPOCHS,
    student: str | None = None,
    output: str | Path | None = None,
    register: bool = False,
    measure_only: bool = False,
    max_drop: float = DEFAULT_MAX_DROP,
    dataset: str | None = None,
    on_event: EventHandler = ignore_event,
) -> Compression:
    """Make a model smaller in one way, and compare both on the test split.

    Args:
        model: A bundle's directory, `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `runs:/RUN_ID/model`.
        int8: Add a form with weights of eight bits: `static`, calibrated with rows of the validation split, or
            `dynamic`.
        prune: Or set this share of the weights in matrices to 0.
        epochs: For `prune`: epochs in which the trainer then trains the remaining weights.
        student: Or compare with a model that was trained with this one as its teacher (`train.distill`).
        output: A new directory for the bundle.
        register: Whether to add a version, with that bundle, to the registered model.
        measure_only: Whether to write and register nothing.
        max_drop: The largest accepted drop of the primary metric on the test split, as a share of its value. If it
            drops by more, nothing is written or registered, and the outcome is not `accepted`.
        dataset: The dataset directory. Default: where the model's job prepared it.
        on_event: Receives what is being done.

    Raises:
        UserError: An argument is wrong, or there is no such model.
        DatasetError: The dataset is gone, or is not the one that the model was trained on.
        BundleError: The model cannot be converted.
        JobFailedError: The training after a pruning failed.
        UnavailableError: MLflow does not answer, or ONNX Runtime is not installed.
    """
    way = Way(int8, prune, epochs, student)
    check_arguments(model, way, output, register=register, measure_only=measure_only, max_drop=max_drop)
    fetched = fetch(model, on_event)
    bundle = open_bundle(fetched.path)
    rows = _open_dataset(bundle, dataset or _dataset_of(model, fetched))
    with tempfile.TemporaryDirectory(prefix="farandole-compressed-") as scratch:
        made = _make(model, way, fetched, rows, Path(scratch), on_event)
        on_event(StageStarted("compress", "measuring both on the test split"))
        found = _compare(model, way.method, bundle, made, rows, max_drop)
        if not found.accepted or measure_only:
            return found
        version = _register(fetched, made, found) if register else None
        if output is not None:
            _publish(made.path, Path(output))
    return replace(found, output=None if output is None else Path(output), registered=version)


def compress_ways(
    model: str,
    ways: Sequence[Way],
    *,
    output: str | Path | None = None,
    register: bool = False,
    measure_only: bool = False,
    max_drop: float = DEFAULT_MAX_DROP,
    dataset: str | None = None,
    on_event: EventHandler = ignore_event,
) -> list[Compression]:
    """Make a model smaller in several ways; see `compress_model` for its errors.

    Args:
        model: The model.
        ways: The ways, at least one; only one if there is an `output`.
        output: A new directory for the bundle.
        register: Whether to add a version for each accepted bundle.
        measure_only: Whether to write and register nothing.
        max_drop: The largest accepted drop of the primary metric.
        dataset: The dataset directory.
        on_event: Receives what is being done.

    Returns:
        The outcomes, in the order of the ways.
    """
    for way in ways or [Way()]:
        check_arguments(model, way, output, register=register, measure_only=measure_only, max_drop=max_drop)
    if output is not None and len(ways) > 1:
        raise UserError(f"-o {output}: is one directory, and {len(ways)} ways are named; name one, or use --register")
    return [
        compress_model(
            model,
            **asdict(way),
            output=output,
            register=register,
            measure_only=measure_only,
            max_drop=max_drop,
            dataset=dataset,
            on_event=on_event,
        )
        for way in ways
    ]


def check_arguments(
    model: str, way: Way, output: str | Path | None, *, register: bool, measure_only: bool, max_drop: float
) -> None:
    """Check the arguments of a compression before anything is loaded.

    Raises:
        UserError: One is wrong.
    """
    if sum(each is not None for each in (way.int8, way.prune, way.student)) != 1:
        raise UserError("models compress: name a way: --int8 METHOD, --prune SHARE or --student MODEL")
    if way.int8 is not None and way.int8 not in int8_form.METHODS:
        raise UserError(f"--int8 {way.int8}: is not a method; the methods are {', '.join(int8_form.METHODS)}")
    if way.prune is not None:
        check_share(way.prune, way.epochs)
    if output is None and not register and not measure_only:
        raise UserError("models compress: names no destination; add -o DIR, --register, or both, or --dry-run")
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


def _make(model: str, way: Way, fetched: FetchedBundle, rows: Dataset, scratch: Path, on_event: EventHandler) -> _Made:
    """Make the smaller model."""
    bundle = open_bundle(fetched.path)
    if way.int8 is not None:
        on_event(StageStarted("compress", f"converting {model} to int8 ({way.int8})"))
        return _make_int8(bundle, way.int8, rows, scratch)
    if way.prune is not None:
        on_event(StageStarted("compress", f"pruning {model}: {way.prune:.4g} of its weights become 0"))
        if way.epochs:
            pruned = prune_and_train(model, fetched, way.prune, way.epochs, str(rows.directory), on_event)
        else:
            pruned = prune_at_once(bundle, way.prune, scratch, on_event)
        return _Made(pruned.path, open_bundle(pruned.path).default_form, pruned.run_id)
    student = fetch(str(way.student), on_event)
    learned = open_bundle(student.path)
    _check_student(learned, bundle, str(way.student), model)
    _open_dataset(learned, str(rows.directory))
    return _Made(student.path, learned.default_form, student.run_id)


def _make_int8(bundle: Bundle, method: str, rows: Dataset, scratch: Path) -> _Made:
    """Add the form `int8` to a copy of a bundle, with the largest difference of its outputs on the test rows."""
    file, draft = scratch / int8_form.FILE, scratch / "bundle"
    validation = read_rows(rows, "validation", _CALIBRATION_ROWS) if method == "static" else []
    int8_form.quantize(bundle, method, [features for features, _ in validation], file)
    exact, small = bundle.predictor().outputs, load_onnx(file)
    differences = [np.abs(exact(features) - small(features)).max() for features, _ in read_rows(rows, "test")]
    shutil.copytree(bundle.path, draft)
    entry = {"file": int8_form.FILE, "method": method, "tolerance": float(max(differences))}
    add_form(draft, "int8", {int8_form.FILE: file}, entry)
    return _Made(draft, "int8")


def _check_student(student: Bundle, teacher: Bundle, name: str, model: str) -> None:
    """Check that a model has learned from another one.

    Raises:
        BundleError: It has another teacher, or none.
    """
    job = student.read_json("lineage.json").get("job") or {}
    learned_from = ((job.get("train") or {}).get("distill") or {}).get("digest")
    if learned_from != teacher.digest:
        found = "none" if learned_from is None else str(learned_from)[:15]
        raise BundleError(
            f"--student {name}: its teacher is {found}, and {model} is {teacher.digest[:15]}; train it with"
            " train.distill.teacher set to this model"
        )


def _compare(model: str, method: str, bundle: Bundle, made: _Made, dataset: Dataset, max_drop: float) -> Compression:
    """Measure the default form of the model, and the smaller one."""
    batches = read_rows(dataset, "test")
    metric = primary_metric(bundle.label)
    before = measure_form(bundle, bundle.default_form, batches)
    after = measure_form(open_bundle(made.path), made.form, batches)
    drop = relative_drop(metric, before.metric, after.metric)
    return Compression(model, method, metric, before, after, drop, max_drop)


def _publish(draft: Path, output: Path) -> None:
    try:
        with atomic_directory(output) as folder:
            shutil.copytree(draft, folder, dirs_exist_ok=True)
    except OSError as error:
        raise BundleError(explain_os_error(error, output)) from error


def _register(fetched: FetchedBundle, made: _Made, found: Compression) -> str:
    """Add a version with the smaller bundle; return its URI."""
    tags = {f"test.{found.metric}": repr(found.after.metric), "farandole.compression": found.method}
    text = (
        f"{found.method} of version {fetched.version}: {found.metric} {format_metric(found.after.metric)} instead of"
        f" {format_metric(found.before.metric)} on the test split"
    )
    return register_bundle(fetched, made.path, tags, text, made.run_id)
