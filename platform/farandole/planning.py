"""What a job would do: every check that needs neither Spark nor torch, and the steps that would follow."""

from __future__ import annotations

import ast
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from farandole.backends.registry import backend_for_job
from farandole.errors import (
    DataError,
    DatasetError,
    FarandoleError,
    ModelError,
    SpecError,
    StorageError,
    UserError,
    closest_match,
)
from farandole.events import format_count
from farandole.ingest.cache_key import code_version, compute_cache_key, existing_dataset
from farandole.ingest.sources.files import SourceFiles, check_header, find_files
from farandole.ingest.sources.transform_modules import module_file, transform_modules
from farandole.shards import Manifest, parse_location, read_manifest, unmet_requirements
from farandole.spec import CsvSource, Job, Sweep, parse_host

_NO_LABEL = "data.label: there is none, so a dataset can be prepared and nothing be trained; declare a label"


def plan(job: Job) -> dict[str, Any]:
    """Check a job and say what it would do; nothing is written and nothing is started.

    Returns:
        `{"problems": [text, ...], "steps": [{"stage", "text", ...}, ...], "objects": [...]}`; objects are what the
        backend would make.
    """
    problems: list[str] = []
    if job.model is not None and job.data.label is None:
        problems.append(_NO_LABEL)
    backend = backend_for_job(job)
    localized = backend.localize(job)
    files: dict[str, SourceFiles] = {}
    for name, source in job.data.sources.items():
        if name in localized.remote_sources:
            continue
        try:
            files[name] = find_files(name, source, unpack=False)
            if isinstance(source, CsvSource) and not any(path.suffix == ".zip" for path in files[name].paths):
                check_header(name, source, files[name])
        except FarandoleError as error:
            problems.append(str(error))
    problems += hosts_problems(job)
    try:
        check_builder(job)
    except ModelError as error:
        problems.append(str(error))
    try:
        check_transform(job)
        request = compute_cache_key(job.data, files, code_version(), job.folder)
    except FarandoleError as error:
        problems.append(str(error))
        request = None
    existing = None
    shown = localized.job
    if localized.prepares_here and request is not None and len(files) == len(job.data.sources):
        try:
            existing = existing_dataset(parse_location(job.data.output), request)
        except FarandoleError as error:  # an object store that refuses or does not answer
            problems.append(f"data.output: {error}")
    steps = [_prepare_step(shown, files, existing, inspect=localized.prepares_here)]
    if job.model is None:
        steps[0]["text"] += "; the job has no `model`, so nothing is trained"
    elif job.data.label is not None:
        steps += [_train_step(shown, existing), _evaluate_step(shown), _register_step(shown)]
        if job.sweep is not None:
            steps.append(_sweep_step(job, job.sweep))
    objects: list[dict[str, Any]] = []
    try:
        objects = backend.render(job)
    except SpecError as error:
        problems += str(error).splitlines()
    return {"problems": problems, "steps": steps, "objects": objects}


def stale_dataset(job: Job) -> bool:
    """Whether the dataset that lies ready was made for another request than the job's, as far as can be told here."""
    try:
        manifest = read_manifest(job.data.output)
        files = {name: find_files(name, source, unpack=False) for name, source in job.data.sources.items()}
        request = compute_cache_key(job.data, files, code_version(), job.folder)
    except (UserError, StorageError):
        return False  # neither the raw files nor the keys of their privacy need be within reach where the training runs
    return manifest.request != request


def _prepare_step(
    job: Job, files: dict[str, SourceFiles], existing: Manifest | None, *, inspect: bool
) -> dict[str, Any]:
    inputs = [entry for source in files.values() for entry in source.fingerprint]
    size_mb = sum(entry["bytes"] for entry in inputs) / 1e6
    action = "reuse" if existing else "prepare"
    text = (
        f"reuse the dataset in {job.data.output}: nothing changed since it was made"
        if existing
        else f"read {format_count(len(inputs), 'file')} ({size_mb:,.1f} MB) of {', '.join(job.data.sources)} with Spark on"
        f" {job.data.master or 'local[*]'} and write shards to {job.data.output}"
    )
    lenient = [name for name, source in job.data.sources.items() if getattr(source, "malformed", "fail") != "fail"]
    if lenient and not existing:
        text += f"; malformed rows of {', '.join(lenient)} are left out"
    left_out = sum(entry.rows for entry in existing.malformed) if existing else 0
    if left_out:
        text += f"; {left_out:,} malformed rows were left out of it"
    step: dict[str, Any] = {"stage": "prepare", "action": action, "text": text, "output": job.data.output}
    if existing:
        step |= {"digest": existing.digest, "rows": existing.row_counts}
    elif inspect:
        try:
            lacking = _lacking(job)
        except FarandoleError:  # the store is out of reach, which `plan` lists as a problem
            lacking = []
        if lacking:
            step |= {"lacking": lacking}
            step["text"] += f"; training refuses the one that lies there ({lacking[0]})"
    return step


def _lacking(job: Job) -> list[str]:
    """What the job demands and the dataset that lies ready lacks; nothing where there is no dataset."""
    try:
        return unmet_requirements(job.data, read_manifest(job.data.output))
    except DatasetError:
        return []


def _train_step(job: Job, existing: Manifest | None) -> dict[str, Any]:
    spec, resources = job.train, job.resources
    cores = len(os.sched_getaffinity(0))
    threads = resources.threads(cores, resources.workers)
    text = (
        f"train {job.network.builder} for {format_count(spec.epochs, 'epoch')} of {spec.global_batch_size} rows a step on"
        f" {format_count(resources.workers, 'worker')}, {format_count(threads, 'thread')} each"
    )
    if spec.augment:
        text += f", {', '.join(spec.augment)} changed at random"
    if resources.gpus:
        text += f" and {resources.gpus} GPU each"
    if resources.workers * threads > cores:
        text += f" ({resources.workers * threads} threads on {cores} cores: slower than fewer)"
    step: dict[str, Any] = {"stage": "train", "text": text, "workers": resources.workers, "threads": threads}
    if existing:
        whole, rest = divmod(existing.rows("train"), spec.global_batch_size)
        step["steps"] = spec.epochs * (whole + (rest > 0 and spec.tail == "weight"))
        step["text"] += f": {step['steps']:,} steps"
    return step


def _evaluate_step(job: Job) -> dict[str, Any]:
    return {
        "stage": "evaluate",
        "text": f"measure {', '.join(job.metrics)} on validation after each epoch and on test at the end",
        "metrics": list(job.metrics),
    }


def _register_step(job: Job) -> dict[str, Any]:
    from farandole.tracking.store import resolve_store

    store = resolve_store(job.tracking).shown
    name = job.tracking.register_as
    what = f"add a version to the registered model {name}" if name else "log the model"
    return {
        "stage": "register",
        "text": f"{what} in {store}, experiment {job.tracking.experiment}",
        "model": name,
    }


def _sweep_step(job: Job, sweep: Sweep) -> dict[str, Any]:
    metric = sweep.metric or job.metrics[0]
    space = {field: str(dimension) for field, dimension in sweep.space.items()}
    at_once = f", {sweep.parallel} at once" if sweep.parallel > 1 else ""
    shown = "; ".join(f"{field}: {values}" for field, values in space.items())
    return {
        "stage": "sweep",
        "text": f"`farandole sweep` trains {format_count(sweep.num_trials, 'time')} ({sweep.sampler}{at_once}) to"
        f" {sweep.goal(metric)} {metric} on validation over {shown}",
        "trials": sweep.num_trials,
        "metric": metric,
        "space": space,
    }


def check_trainable(job: Job) -> None:
    """Whether there is something to learn, and a model that learns.

    Raises:
        SpecError: There is no model, no label, or something that its hosts need.
    """
    if job.network and job.data.label is None:
        raise SpecError(_NO_LABEL)
    problems = hosts_problems(job)
    if problems:
        raise SpecError("\n".join(problems))


def hosts_problems(job: Job) -> list[str]:
    """What keeps the job from running on the hosts that it lists, as far as the job file tells. Files and scripts that
    list hosts are read when an attempt starts."""
    from farandole.launch.hosts import is_local
    from farandole.launch.ssh.preflight import job_problems

    hosts = job.resources.hosts
    listed = [parse_host(text)[0] for text in hosts.fixed or ()] if hosts is not None else []
    return job_problems(job, [name for name in listed if not is_local(name)])


def check_builder(job: Job) -> None:
    """Find the builder's function, where the job has one, without importing its module, which may bring torch.

    Raises:
        ModelError: There is no such module, or no such function in it.
    """
    if job.model is None:
        return
    module_name, function_name = job.model.builder.split(":")
    place = f"model.builder: {job.model.builder}"
    source = module_file(module_name, Path(job.folder or "."))
    if source is None:
        try:
            found = importlib.util.find_spec(module_name)
        except (ImportError, ValueError):
            found = None
        if found is None:
            top = module_name.split(".")[0]
            ours = top == "farandole"
            put = "" if ours else f"put {top}.py beside the job file ({job.folder}), or "
            raise ModelError(f"{place}: there is no module {module_name}; {put}use one of farandole.models")
        source = Path(found.origin) if found.origin and found.origin.endswith(".py") else None
    if source is None:
        return  # compiled: only the worker can tell
    _check_function(place, source, function_name, ModelError)


def check_transform(job: Job) -> None:
    """Find the function of `data.transform` without importing its module.

    Raises:
        DataError: There is no such module, or no such function in it.
    """
    reference = job.data.transform
    if reference is not None:
        source = next(iter(transform_modules(reference, job.folder).values()))
        _check_function(f"data.transform: {reference}", source, reference.split(":")[1], DataError)


def _check_function(place: str, source: Path, name: str, error_type: type[UserError]) -> None:
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise error_type(f"{place}: {source}, line {error.lineno}: {error.msg}") from error
    except (OSError, ValueError) as error:  # it may not be read, or is no text
        raise error_type(f"{place}: {source}: cannot be read as Python ({error}); mend the module") from error
    names = _names_in(tree.body)
    if name not in names and "*" not in names:
        close = closest_match(name, names)
        hint = f"did you mean {close}?" if close else f"it has {', '.join(names) or 'no functions'}"
        raise error_type(f"{place}: {source} has no function {name}; {hint}")


def _names_in(statements: Sequence[ast.AST]) -> list[str]:
    """Functions, classes and imported or assigned names at the top of a module, also below `if` and `try`."""
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
            names += _names_in(list(ast.iter_child_nodes(node)))
    return names
