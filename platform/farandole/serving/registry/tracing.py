"""The origin of a model: version, bundle, MLflow run, job file, dataset, query, privacy policies and source files.

Every step shows what was recorded when it happened, and whether that is still so, where this can be checked. A link
that was never recorded, or cannot be read any more, is a step of its own with the reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from farandole.bundle import Bundle, open_bundle
from farandole.errors import BundleError, RegistryError, UnavailableError
from farandole.serving.registry import runs
from farandole.serving.registry.dataset_steps import dataset_step
from farandole.serving.registry.steps import TraceStep, missing_step, present, utc
from farandole.serving.registry.versions import DERIVED_TAG
from farandole.tracking.model_store.bundles import bundle_files, fetch_bundle
from farandole.tracking.model_store.reference import ModelReference, parse_model

if TYPE_CHECKING:
    from farandole.tracking.model_store.connection import LoggedModel, Registry

_LINEAGE = "lineage.json"
_TEST = "test."


def trace_model(model: str) -> TraceStep:
    """Return where a model comes from, as a tree from the model down to the source files.

    Args:
        model: A bundle's directory, `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `runs:/RUN_ID/model`.

    Raises:
        RegistryError: There is no such model.
        BundleError: A directory is not a bundle.
        UnavailableError: MLflow does not answer, and the model is not a directory.
    """
    from farandole.tracking.model_store.connection import Registry  # MLflow takes long to import

    registry, reference = Registry(), parse_model(model)
    if reference.directory is not None:
        bundle = open_bundle(fetch_bundle(model))
        steps = (_bundle_step(bundle.digest, bundle), _run_of_bundle(registry, bundle))
        return TraceStep("model", bundle.name, {"directory": str(bundle.path)}, steps=steps)
    found = registry.find(reference)
    facts = _version_facts(registry, found)
    name = f"models:/{found.name}/{found.version}" if found.name else reference.text
    steps = (_registered_bundle_step(registry, reference, found), _run_step(registry, found.run_id))
    return TraceStep("model", name, facts, steps=steps)


def _version_facts(registry: Registry, found: LoggedModel) -> dict[str, Any]:
    if found.name is None:
        return {"registered": "no"}
    aliases = registry.registered(found.name).aliases
    with registry.errors():
        entry = registry.client.get_model_version(found.name, found.version)
    named = sorted(alias for alias, version in aliases.items() if str(version) == found.version)
    made_from = entry.tags.get(DERIVED_TAG)
    return present(aliases=named, registered=utc((entry.creation_timestamp or 0) / 1000), made_from=made_from)


def _registered_bundle_step(registry: Registry, reference: ModelReference, found: LoggedModel) -> TraceStep:
    try:
        digest, files = bundle_files(registry, reference, found)
    except RegistryError as error:
        return missing_step("bundle", "bundle", str(error))
    return TraceStep("bundle", digest, {"files": len(files), "bytes": sum(files.values())})


def _bundle_step(digest: str, bundle: Bundle) -> TraceStep:
    return TraceStep("bundle", digest, {"forms": list(bundle.forms)})


def _run_of_bundle(registry: Registry, bundle: Bundle) -> TraceStep:
    """Return the run that a bundle names in its lineage."""
    try:
        lineage = bundle.read_json(_LINEAGE)
    except BundleError:
        return missing_step("run", "MLflow run", f"the bundle has no {_LINEAGE}")
    run_id = lineage.get("mlflow_run_id") if isinstance(lineage, dict) else None
    if not run_id:
        return missing_step("run", "MLflow run", f"{_LINEAGE} of the bundle names no MLflow run")
    try:
        return _run_step(registry, str(run_id))
    except UnavailableError as error:  # the bundle itself needs no MLflow
        return missing_step("run", str(run_id), str(error))


def _run_step(registry: Registry, run_id: str | None) -> TraceStep:
    """Return a run with its job file, its code and its dataset below."""
    if run_id is None:
        return missing_step("run", "MLflow run", "the model was registered without one")
    try:
        run = registry.run(run_id)
    except RegistryError as error:
        return missing_step("run", run_id, str(error))
    tags, info = run.data.tags, run.info
    metrics = {name: value for name, value in run.data.metrics.items() if name.startswith(_TEST)}
    facts = present(
        name=info.run_name,
        status=info.status,
        started=utc(info.start_time / 1000) if info.start_time else None,
        user=tags.get("mlflow.user"),
        job=tags.get("farandole.job"),
        metrics=dict(sorted(metrics.items())),
        test_rows=tags.get("farandole.test_rows_digest"),
        weights=tags.get("farandole.weights_digest"),
    )
    job = runs.read_json(registry, run_id, runs.ALL_FIELDS) or {}
    steps = (
        _job_step(registry, run_id, job),
        _code_step(registry, run_id, tags),
        *_model_steps(job),
        _dataset(registry, run, job),
    )
    return TraceStep("run", run_id, facts, steps=steps)


def _job_step(registry: Registry, run_id: str, job: Mapping[str, Any]) -> TraceStep:
    content = runs.read_artifact(registry, run_id, runs.JOB_FILE)
    if content is None:
        return missing_step("job file", runs.JOB_FILE, "the run has no job file among its artifacts")
    label = (job.get("data") or {}).get("label") or {}
    facts = present(
        digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
        name=job.get("name"),
        builder=(job.get("model") or {}).get("builder"),
        label=label.get("column"),
        artifact=f"runs:/{run_id}/{runs.JOB_FILE}",
    )
    return TraceStep("job file", str(job.get("name") or runs.JOB_FILE), facts)


def _code_step(registry: Registry, run_id: str, tags: Mapping[str, str]) -> TraceStep:
    """Return the git commit of the job's folder, with uncommitted changes, and the installed packages."""
    commit = tags.get("mlflow.source.git.commit")
    changes = runs.read_artifact(registry, run_id, runs.CHANGES)
    packages = runs.read_artifact(registry, run_id, runs.REQUIREMENTS)
    facts = present(
        uncommitted=f"{len(changes.splitlines())} lines in {runs.CHANGES}" if changes else None,
        packages=f"{len(packages.splitlines())} in {runs.REQUIREMENTS}" if packages else None,
    )
    if commit is None and not facts:
        return missing_step("code", "code", "the job's folder was not in a git repository")
    name = f"git commit {commit}" if commit else "no git commit: the job's folder was not in a repository"
    return TraceStep("code", name, facts)


def _model_steps(job: Mapping[str, Any]) -> Iterator[TraceStep]:
    """Yield the trained models that a run learned from or started from."""
    train = job.get("train") or {}
    for part, kind, name in (("distill", "teacher", "teacher"), ("prune", "pruned model", "model")):
        used = train.get(part)
        if used:
            facts = present(**{key: value for key, value in used.items() if key != name})
            yield TraceStep(kind, str(used.get(name)), facts)


def _dataset(registry: Registry, run: Any, job: Mapping[str, Any]) -> TraceStep:
    run_id = run.info.run_id
    manifest = runs.read_json(registry, run_id, runs.DATASET_MANIFEST)
    if manifest is None:
        return missing_step("dataset", "dataset", f"the run has no {runs.DATASET_MANIFEST} among its artifacts")
    return dataset_step(manifest, job, runs.dataset_rows(run))
