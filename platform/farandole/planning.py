"""Plans: every check of a job that needs neither Spark nor torch, and the steps that would follow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from farandole.backends.registry import backend_for_job
from farandole.defaults import Table, chosen_values, resolve, resolve_for
from farandole.errors import FarandoleError, SpecError
from farandole.events import format_count
from farandole.guessing.resolve import resolve_guesses
from farandole.ingest.cache_key import compute_cache_key
from farandole.ingest.prepared import find_manifest, is_current
from farandole.ingest.readers.csv_headers import check_header
from farandole.ingest.readers.known_columns import check_columns
from farandole.ingest.sources.files import SourceFiles, find_files
from farandole.ingest.sources.small import needs_spark
from farandole.launch.trained_models import check_models, describe_models
from farandole.pipeline import NO_LABEL, check_builder, check_script, check_transform, host_problems
from farandole.shards import Manifest, unmet_requirements
from farandole.spec import CsvSource, Job, Sweep, Train
from farandole.storage import parse_location

_SAMPLE_BYTES = 2**18
_LINE_SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson")
_PARQUET_SUFFIXES = (".parquet", ".pq")


@dataclass(frozen=True)
class PlanStep:
    """One step of a plan.

    Args:
        text: The step in a sentence.
    """

    stage: ClassVar[str]
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Return the step as an entry of the document's `steps`."""
        return {"stage": self.stage, **asdict(self)}


@dataclass(frozen=True)
class GuessStep(PlanStep):
    """The features that the job file leaves open, guessed from the files.

    Args:
        features: Name of each feature to its kind; empty: they are guessed when the dataset is prepared.
    """

    stage = "guess"
    features: dict[str, str]


@dataclass(frozen=True)
class PrepareStep(PlanStep):
    """The preparation of the dataset.

    Args:
        action: Whether it is prepared or reused.
        output: The dataset directory.
        digest: Content digest of the dataset that is reused.
        rows: Rows of its splits.
        lacking: Requirements of the job that the dataset in `output` does not meet; the training would refuse it.
    """

    stage = "prepare"
    action: Literal["prepare", "reuse"]
    output: str
    digest: str | None = None
    rows: dict[str, int] | None = None
    lacking: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the step without the fields that do not apply to it."""
        found = {name: value for name, value in super().to_dict().items() if value is not None}
        return found | ({"lacking": list(self.lacking)} if self.lacking is not None else {})


@dataclass(frozen=True)
class TrainStep(PlanStep):
    """The training.

    Args:
        workers: Number of workers.
        threads: Threads of each.
        steps: Optimizer steps; None: unknown before the dataset exists.
        chosen: Values of the fields that are `auto`, by field path; estimated before the dataset exists.
    """

    stage = "train"
    workers: int
    threads: int
    steps: int | None = None
    chosen: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the step without the number of steps while it is unknown."""
        return {name: value for name, value in super().to_dict().items() if value is not None}


@dataclass(frozen=True)
class EvaluateStep(PlanStep):
    """The evaluation.

    Args:
        metrics: Names of the metrics.
    """

    stage = "evaluate"
    metrics: list[str]


@dataclass(frozen=True)
class RegisterStep(PlanStep):
    """The registration of the model.

    Args:
        model: The registered model; None: the model is only logged.
    """

    stage = "register"
    model: str | None


@dataclass(frozen=True)
class SweepStep(PlanStep):
    """The sweep that `farandole sweep` would do.

    Args:
        trials: Number of trainings.
        metric: The validation metric that they are compared by.
        space: Field of the job file to its values, as text.
    """

    stage = "sweep"
    trials: int
    metric: str
    space: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """The steps that a job would take, and what prevents them.

    Args:
        problems: The problems of the job that can be found without reading the data.
        steps: The steps, in order.
        objects: The objects that the backend would create.
    """

    problems: tuple[str, ...]
    steps: tuple[PlanStep, ...] = ()
    objects: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the result document of `farandole plan --json`."""
        return {
            "problems": list(self.problems),
            "steps": [step.to_dict() for step in self.steps],
            "objects": list(self.objects),
        }


def plan(job: Job) -> Plan:
    """Check a job and return what it would do; nothing is written and nothing is started."""
    problems = [NO_LABEL] if job.model is not None and job.data.label is None else []
    backend = backend_for_job(job)
    localized = backend.localize(job)
    files = _open_sources(job, localized.remote_sources, problems)
    job, guessed = _resolve_features(job, files, problems)
    localized = backend.localize(job) if guessed else localized
    problems += host_problems(job)
    try:
        check_builder(job)
        check_script(job)
        if localized.prepares_here:  # elsewhere, the launcher reaches the models and this machine need not
            check_models(job)
    except FarandoleError as error:
        problems.append(str(error))
    cache_key = None
    try:
        check_transform(job)
        cache_key = compute_cache_key(job.data, files, job.folder)
    except FarandoleError as error:
        problems.append(str(error))
    shown = localized.job
    found, is_reused = None, False
    if localized.prepares_here and job.has_data:
        try:
            location = parse_location(job.data.output)
            found = find_manifest(location)
            is_complete = cache_key is not None and len(files) == len(job.data.sources)
            is_reused = found is not None and is_complete and is_current(location, found, str(cache_key))
        except FarandoleError as error:  # an object store refuses or does not answer
            problems.append(f"data.output: {error}")
    steps: list[PlanStep] = []
    if guessed:
        steps.append(GuessStep(guessed, features=_kinds(job)))
    if job.has_data:
        steps.append(_reuse_step(shown, found) if found and is_reused else _prepare_step(shown, files, found))
    if job.train.script is not None:
        steps.append(_script_step(shown))
    if job.model is not None and job.data.label is not None:
        steps += [_train_step(shown, found if is_reused else None, files), _evaluate_step(shown), _register_step(shown)]
        if job.sweep is not None:
            steps.append(_sweep_step(job, job.sweep))
    try:
        objects = backend.render(job)
    except SpecError as error:
        problems += str(error).splitlines()
        objects = []
    return Plan(tuple(problems), tuple(steps), tuple(objects))


def _open_sources(job: Job, remote: frozenset[str], problems: list[str]) -> dict[str, SourceFiles]:
    """Return the files of the sources that this machine can read, by name; append the problems of these sources."""
    files: dict[str, SourceFiles] = {}
    for name, source in job.data.sources.items():
        if name in remote:
            continue
        try:
            files[name] = find_files(name, source)
        except FarandoleError as error:
            problems.append(str(error))
    if not any(path.suffix == ".zip" for found in files.values() for path in found.paths):
        problems += _column_problems(job, files)
    return files


def _column_problems(job: Job, files: dict[str, SourceFiles]) -> list[str]:
    """Return what headers and footers show to be wrong: other columns than declared, or than the features need."""
    try:
        if len(files) == len(job.data.sources):
            check_columns(job.data, files)
        else:
            for name, found in files.items():
                source = job.data.sources[name]
                if isinstance(source, CsvSource):
                    check_header(name, source, found)
    except FarandoleError as error:
        return str(error).splitlines()
    return []


def _resolve_features(job: Job, files: dict[str, SourceFiles], problems: list[str]) -> tuple[Job, str]:
    """Return the job with features instead of `features: auto`, and what was guessed; empty: nothing had to be.

    Files that would have to be copied or unpacked first stay as they are.
    """
    if not job.data.is_guessed:
        return job, ""
    paths = [path for found in files.values() for path in found.paths]
    is_local = all(found.remote is None for found in files.values()) and len(files) == len(job.data.sources)
    if not is_local or any(path.suffix == ".zip" for path in paths):
        return job, "guess the features from the files, when they are here"
    try:
        resolved = resolve_guesses(job)
    except FarandoleError as error:
        problems += str(error).splitlines()
        return job, ""
    return resolved.job, resolved.describe()


def _kinds(job: Job) -> dict[str, str]:
    return {name: feature.kind for name, feature in job.data.features.items()}


def _reuse_step(job: Job, manifest: Manifest) -> PrepareStep:
    text = f"reuse the dataset in {job.data.output}: nothing has changed since it was made"
    left_out = sum(entry.rows for entry in manifest.malformed)
    if left_out:
        text += f"; {left_out:,} malformed rows were left out of it"
    return PrepareStep(
        text + _no_training(job),
        action="reuse",
        output=job.data.output,
        digest=manifest.digest,
        rows=manifest.row_counts,
    )


def _prepare_step(job: Job, files: dict[str, SourceFiles], found: Manifest | None) -> PrepareStep:
    """Return the step that prepares the dataset.

    Args:
        job: The job.
        files: The files of its sources.
        found: The manifest of the dataset that is in `data.output` now; None: there is none.
    """
    inputs = [entry for source in files.values() for entry in source.fingerprint]
    size_mb = sum(entry.bytes for entry in inputs) / 1e6
    engine = f"with Spark on {job.data.master or 'local[*]'}" if needs_spark(job.data, files) else "without Spark"
    text = (
        f"read {format_count(len(inputs), 'file')} ({size_mb:,.1f} MB) of {', '.join(job.data.sources)} {engine} and"
        f" write shards to {job.data.output}"
    )
    lenient = [name for name, source in job.data.sources.items() if getattr(source, "malformed", "fail") != "fail"]
    if lenient:
        text += f"; malformed rows of {', '.join(lenient)} are left out"
    lacking = unmet_requirements(job.data, found) if found else []
    if lacking:
        text += f"; training refuses the dataset that is there now ({lacking[0]})"
    text += _no_training(job)
    return PrepareStep(text, action="prepare", output=job.data.output, lacking=tuple(lacking) or None)


def _no_training(job: Job) -> str:
    return "" if job.has_training else "; the job has no `model`, so nothing is trained"


def _script_step(job: Job) -> TrainStep:
    """Return the step that runs the user's script."""
    workers = job.resources.workers
    threads = job.resources.threads(len(os.sched_getaffinity(0)), workers)
    command = " ".join([str(job.train.script), *job.train.args])
    return TrainStep(f"run {command} on {_workers(job, threads)}", workers=workers, threads=threads)


def _workers(job: Job, threads: int) -> str:
    """Return the workers, with the threads and GPUs of each."""
    workers, gpus = job.resources.workers, job.resources.gpus
    parts = format_count(threads, "thread") + (f" and {format_count(gpus, 'GPU')}" if gpus else "")
    return f"{format_count(workers, 'worker')} with {parts}" + (" each" if workers > 1 else "")


def _train_step(unresolved: Job, manifest: Manifest | None, files: dict[str, SourceFiles]) -> TrainStep:
    job = resolve(unresolved, manifest) if manifest else resolve_for(unresolved, estimate_table(unresolved, files))
    spec, resources = job.train, job.resources
    cores = len(os.sched_getaffinity(0))
    threads = resources.threads(cores, resources.workers)
    text = (
        f"train {job.network.builder} for {_epochs(spec)} with {_batch(spec)} rows per step on {_workers(job, threads)}"
    )
    text += describe_models(job)
    if spec.augment:
        text += f", augmenting {', '.join(spec.augment)} at random"
    if resources.workers * threads > cores:
        text += f" ({resources.workers * threads} threads on {cores} cores: slower than fewer)"
    steps = None
    if manifest is not None:
        whole, rest = divmod(manifest.rows("train"), spec.batch_rows)
        steps = spec.num_epochs * (whole + (rest > 0 and spec.tail == "weight"))
        text += f": {steps:,} steps"
    chosen = chosen_values(unresolved, job)
    return TrainStep(text, workers=resources.workers, threads=threads, steps=steps, chosen=chosen or None)


def estimate_table(job: Job, files: dict[str, SourceFiles]) -> Table | None:
    """Estimate the training rows of a dataset that does not exist yet; None if it takes reading to know.

    A query may drop or multiply rows, so there is an estimate only for one source without a query.
    """
    label, split = job.data.label, job.data.split
    if (
        label is None
        or label.kind == "auto"
        or job.data.query is not None
        or len(job.data.sources) != 1
        or len(files) != 1
    ):
        return None
    rows = estimate_rows(next(iter(files.values())).paths)
    share = 0.8 if split.column else split.train
    return None if rows is None else Table(max(1, round(rows * share)), label.kind)


def estimate_rows(paths: Sequence[Path]) -> int | None:
    """Estimate the rows of the files of a source.

    Args:
        paths: Local files.

    Returns:
        The exact number for Parquet; for files of lines, their size divided by the mean length of the first lines;
        None for other files, such as compressed ones, and for files that cannot be read.
    """
    total = 0
    try:
        for path in paths:
            rows = _parquet_rows(path) if path.suffix.lower() in _PARQUET_SUFFIXES else _line_count(path)
            if rows is None:
                return None
            total += rows
    except (OSError, ValueError):
        return None
    return total if paths else None


def _parquet_rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def _line_count(path: Path) -> int | None:
    if path.suffix.lower() not in _LINE_SUFFIXES:
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    lines = sample.count(b"\n") + (size == len(sample) and not sample.endswith(b"\n") and bool(sample))
    if not lines:
        return None
    counted = len(sample) if size == len(sample) else sample.rfind(b"\n") + 1
    header = path.suffix.lower() in (".csv", ".tsv", ".txt")
    return max(0, round(size / counted * lines) - header)


def _epochs(spec: Train) -> str:
    return "a number of epochs" if spec.epochs == "auto" else format_count(spec.epochs, "epoch")


def _batch(spec: Train) -> str:
    return "a number of" if spec.global_batch_size == "auto" else str(spec.global_batch_size)


def _evaluate_step(job: Job) -> EvaluateStep:
    metrics = ", ".join(job.metrics) or "the metrics of its label"
    text = f"evaluate {metrics} on validation after each epoch and on test at the end"
    return EvaluateStep(text, metrics=list(job.metrics))


def _register_step(job: Job) -> RegisterStep:
    from farandole.tracking.store import resolve_store

    store = resolve_store(job.tracking).shown
    name = job.tracking.register_as
    action = f"add a version to the registered model {name}" if name else "log the model"
    return RegisterStep(f"{action} in {store}, experiment {job.tracking.experiment}", model=name)


def _sweep_step(job: Job, sweep: Sweep) -> SweepStep:
    metric = sweep.metric or job.metrics[0]
    space = {field: str(dimension) for field, dimension in sweep.space.items()}
    at_once = f", {sweep.parallel} at once" if sweep.parallel > 1 else ""
    shown = "; ".join(f"{field}: {values}" for field, values in space.items())
    text = (
        f"`farandole sweep` trains {format_count(sweep.num_trials, 'time')} ({sweep.sampler}{at_once}) to"
        f" {sweep.goal(metric)} {metric} on validation over {shown}"
    )
    return SweepStep(text, trials=sweep.num_trials, metric=metric, space=space)
