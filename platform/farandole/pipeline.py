"""The pipeline that every entry point shares: check a job, prepare its dataset, train its model.

The Python API, the process of a local job, the pods of a cluster and the trials of a sweep call these functions and
nothing below them. A job is checked once, each source is opened once, the dataset's cache key is computed once, and the
manifest is read at most twice before the first worker starts.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from farandole.defaults import resolve
from farandole.errors import DataError, ModelError, SpecError, StorageError, UserError, closest_match
from farandole.events import EventHandler, Message, ignore_event
from farandole.ingest.sources.transform_modules import module_file, transform_modules
from farandole.shards import Manifest, read_manifest
from farandole.spec import Job, parse_host
from farandole.storage import parse_location

if TYPE_CHECKING:  # each stage imports what it needs when it starts: the command line answers at once
    from farandole.ingest.prepared import PreparedDataset
    from farandole.launch.result import TrainedModel

Stage = Literal["prepare", "train"]
STAGES: tuple[Stage, ...] = ("prepare", "train")

NO_LABEL = "data.label: missing, so a dataset can be prepared but no model trained; declare a label"


@dataclass(frozen=True)
class CheckedJob:
    """A job that passed every check that needs neither Spark nor torch.

    Args:
        job: The job.
    """

    job: Job


@dataclass(frozen=True)
class RunResult:
    """Everything that a job produced.

    Args:
        job: The job.
        dataset: The dataset; None: the job's script reads its own data.
        trained: The training and its model.
    """

    job: Job
    dataset: PreparedDataset | None
    trained: TrainedModel

    def to_dict(self) -> dict[str, Any]:
        """Return the result document of `farandole run --json`."""
        return self.trained.to_dict()


def check(
    job: Job,
    stages: Sequence[Stage] = STAGES,
    *,
    needs_builder: bool = True,
    opens_models: bool = True,
    on_event: EventHandler = ignore_event,
) -> CheckedJob:
    """Check a job before anything is started.

    Args:
        job: The job.
        stages: The stages that are going to run.
        needs_builder: Whether the module of `model.builder` must be on this machine. False where only the dataset is
            prepared here, as in a preparation pod.
        opens_models: Whether to open the trained models that the job names. False where the job is handed to machines
            that reach them, and this one need not.
        on_event: Receives a warning where MLflow does not answer and a model's last known bundle is used.

    Raises:
        SpecError: The job is to be trained and has no model, no label, or lacks something that its hosts need.
        RegistryError: There is no such teacher, or no such model to prune.
        ModelError: The builder's module or function does not exist, or a trained model that the job names does not fit.
        DataError: The transform's module or function does not exist.
    """
    if "train" in stages:
        check_trainable(job)
        if opens_models and job.train.trained_models:
            from farandole.launch.trained_models import check_models

            check_models(job, on_event)
    if needs_builder:
        check_builder(job)
        check_script(job)
    if "prepare" in stages:
        check_transform(job)
    return CheckedJob(job)


def prepare(checked: CheckedJob, on_event: EventHandler = ignore_event, *, force: bool = False) -> PreparedDataset:
    """Create the job's dataset, or reuse it where nothing has changed; see `farandole.ingest.prepare.prepare`.

    Raises:
        SpecError: The job has no data.
    """
    if not checked.job.has_data:
        raise SpecError("data: is missing, so there is no dataset to prepare; `farandole run` runs the script")
    from farandole.ingest.prepare import prepare as prepare_dataset

    return prepare_dataset(resolve_features(checked, on_event).job, on_event, force=force)


def resolve_features(checked: CheckedJob, on_event: EventHandler = ignore_event) -> CheckedJob:
    """Return the job with features instead of `features: auto`; see `farandole.guessing.resolve.resolve_guesses`.

    Every stage calls this, or has its job from one that did, so that all of them see the same features.
    """
    if not checked.job.data.is_guessed:
        return checked
    from farandole.guessing.resolve import resolve_guesses

    resolved = resolve_guesses(checked.job)
    on_event(Message(resolved.describe()))
    return replace(checked, job=resolved.job)


def _resolve_from_dataset(job: Job, manifest: Manifest) -> Job:
    """Return the job with the features that its dataset was made with, where the job file leaves them open."""
    if not job.data.is_guessed:
        return job
    from farandole.guessing.resolve import resolve_from_manifest

    return resolve_from_manifest(job, manifest)


def load_prepared(
    checked: CheckedJob, on_event: EventHandler = ignore_event, *, warn_if_stale: bool = True
) -> PreparedDataset:
    """Return the dataset that `data.output` holds already.

    Args:
        checked: The job.
        on_event: Receives a warning where the dataset was made from other sources, features or code.
        warn_if_stale: Whether to compare it with the sources, which are opened for that.

    Raises:
        DatasetError: There is no dataset.
    """
    from farandole.ingest.prepared import PreparedDataset

    manifest = read_manifest(checked.job.data.output)
    job = _resolve_from_dataset(checked.job, manifest)
    if warn_if_stale and is_stale(job, manifest):
        text = f"{job.data.output}: was made from other sources, features or code; `farandole prepare` renews it"
        on_event(Message(text, level="warning"))
    return PreparedDataset(parse_location(job.data.output), manifest, reused=True)


def train(
    checked: CheckedJob,
    prepared: PreparedDataset | None,
    on_event: EventHandler = ignore_event,
    *,
    register: bool = False,
    directory: Path | None = None,
) -> TrainedModel:
    """Train the job's model on its dataset; see `farandole.launch.supervisor.train` for arguments and errors.

    Fields that are `auto` get their values here: see `farandole.defaults`.
    """
    from farandole.launch import DatasetSummary
    from farandole.launch import train as train_model

    manifest = prepared.manifest if prepared is not None else None
    job = checked.job if manifest is None else resolve(_resolve_from_dataset(checked.job, manifest), manifest)
    trained = train_model(job, on_event, manifest=manifest, register=register, directory=directory)
    return replace(trained, dataset=DatasetSummary(**prepared.to_dict()) if prepared is not None else None)


def run(
    checked: CheckedJob, on_event: EventHandler = ignore_event, *, force: bool = False, directory: Path | None = None
) -> RunResult:
    """Prepare the dataset, train, evaluate, and register the model.

    Args:
        checked: The job, checked for both stages.
        on_event: Receives the events of both stages.
        force: Prepare the dataset even if nothing has changed.
        directory: The job's directory. Default: a new one in `$FARANDOLE_HOME/jobs`.

    Raises:
        UnavailableError: The job wants an explanation, and Captum is not installed.
    """
    if checked.job.train.explain:
        from farandole.explaining import require_captum  # imports torch

        require_captum()  # the workers check it as well, but only after the preparation
    checked = resolve_features(checked, on_event)
    dataset = prepare(checked, on_event, force=force) if checked.job.has_data else None
    return RunResult(checked.job, dataset, train(checked, dataset, on_event, register=True, directory=directory))


def is_stale(job: Job, manifest: Manifest) -> bool:
    """Return whether a dataset was made from other sources, features or code than the job's.

    The answer is False where this machine cannot determine it: neither the raw files nor the privacy keys need to be
    within reach where a model is trained.
    """
    from farandole.ingest.cache_key import compute_cache_key
    from farandole.ingest.sources.files import find_files

    try:
        files = {name: find_files(name, source) for name, source in job.data.sources.items()}
        cache_key = compute_cache_key(job.data, files, job.folder)
    except (UserError, StorageError):
        return False
    return manifest.request != cache_key


def check_trainable(job: Job) -> None:
    """Check that there is something to learn, and a model that can learn it.

    Raises:
        SpecError: There is no model, no label, or something is missing that its hosts need.
    """
    if job.train.script is None and job.network and job.data.label is None:
        raise SpecError(NO_LABEL)
    problems = host_problems(job)
    if problems:
        raise SpecError("\n".join(problems))


def host_problems(job: Job) -> list[str]:
    """Return what in the job file prevents the job from running on the hosts that it lists.

    Files and scripts that list hosts are read when an attempt starts.
    """
    from farandole.launch.hosts import is_local
    from farandole.launch.ssh.preflight import check_job

    hosts = job.resources.hosts
    listed = [parse_host(text)[0] for text in hosts.fixed or ()] if hosts is not None else []
    return [str(check) for check in check_job(job, [name for name in listed if not is_local(name)])]


def check_builder(job: Job) -> None:
    """Find the function of `model.builder` without importing its module, which may import torch.

    Raises:
        ModelError: The module or the function does not exist.
    """
    if job.model is None:
        return
    module_name, function_name = job.model.builder.split(":")
    field = f"model.builder: {job.model.builder}"
    source = module_file(module_name, Path(job.folder or "."))
    if source is None:
        try:
            found = importlib.util.find_spec(module_name)
        except (ImportError, ValueError):
            found = None
        if found is None:
            top = module_name.split(".")[0]
            advice = "" if top == "farandole" else f"put {top}.py beside the job file ({job.folder}), or "
            raise ModelError(f"{field}: there is no module {module_name}; {advice}use one of farandole.models")
        source = Path(found.origin) if found.origin and found.origin.endswith(".py") else None
    if source is not None:  # a compiled module is checked by the workers
        _check_function(field, source, function_name, ModelError)


def check_script(job: Job) -> None:
    """Check that the script of `train.script` exists and is Python.

    Raises:
        ModelError: It does not exist, or Python cannot parse it.
    """
    if job.train.script is None:
        return
    path = Path(job.folder or ".", job.train.script)
    try:
        ast.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"train.script: {path}: no such file; put it beside the job file") from None
    except SyntaxError as error:
        raise ModelError(f"train.script: {path}, line {error.lineno}: {error.msg}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"train.script: {path}: cannot be read as Python ({error}); fix the file") from error


def check_transform(job: Job) -> None:
    """Find the function of `data.transform` without importing its module.

    Raises:
        DataError: The module or the function does not exist.
    """
    reference = job.data.transform
    if reference is not None:
        source = next(iter(transform_modules(reference, job.folder).values()))
        _check_function(f"data.transform: {reference}", source, reference.split(":")[1], DataError)


def _check_function(field: str, source: Path, name: str, error_type: type[UserError]) -> None:
    """Check that a module's source defines or imports a name.

    Args:
        field: The field of the job file that refers to it, for the message.
        source: The module's file.
        name: The function's name.
        error_type: The error to raise.
    """
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise error_type(f"{field}: {source}, line {error.lineno}: {error.msg}") from error
    except (OSError, ValueError) as error:  # not readable, or not text
        raise error_type(f"{field}: {source}: cannot be read as Python ({error}); fix the module") from error
    names = _top_level_names(tree.body)
    if name not in names and "*" not in names:
        close = closest_match(name, names)
        hint = f"did you mean {close}?" if close else f"it has {', '.join(names) or 'no functions'}"
        raise error_type(f"{field}: {source} has no function {name}; {hint}")


def _top_level_names(statements: Sequence[ast.AST]) -> list[str]:
    """Return the functions, classes and imported or assigned names of a module, including those in `if` and `try`."""
    names: list[str] = []
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
        elif isinstance(node, ast.If | ast.Try | ast.ExceptHandler | ast.With):
            names += _top_level_names(list(ast.iter_child_nodes(node)))
    return names
