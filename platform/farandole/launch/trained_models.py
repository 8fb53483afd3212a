"""The trained models that a job learns from or starts from: fetched, checked, and copied to where workers find them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from farandole.errors import ModelError, RegistryError, UnavailableError, UserError
from farandole.events import EventHandler, Message, ignore_event
from farandole.jobdir.checkpoints import checkpoint_location
from farandole.shards import Manifest
from farandole.spec import Distill, Job, Prune


def model_fields(job: Job) -> Iterator[tuple[str, str, Distill | Prune]]:
    """Yield the field path, the field's name and the part of each trained model that a job names."""
    for name, part in job.train.trained_models.items():
        yield f"train.{name}.{'teacher' if name == 'distill' else 'model'}", name, part


def describe_models(job: Job) -> str:
    """Return the part of a plan about the trained models that a job names; empty if it names none."""
    train, text = job.train, ""
    if train.distill is not None:
        text += f", also from {train.distill.teacher} (weight {train.distill.weight:g})"
    if train.prune is not None:
        text += f", starting from {train.prune.model} with {train.prune.share:.0%} of its weights pruned"
    return text


def check_models(job: Job, on_event: EventHandler = ignore_event) -> None:
    """Open the trained models that a job names, and compare them with what the job declares.

    Args:
        job: The job.
        on_event: Receives a warning where MLflow does not answer and the last known bundle is used.

    Raises:
        UserError: There is no such model, it is damaged, or its label or features are others.
        UnavailableError: MLflow does not answer.
    """
    for field, _, part in model_fields(job):
        from farandole.bundle import open_bundle  # imports pyarrow
        from farandole.bundle.compatibility import check_declared

        try:
            path = _fetch(job, field, part, on_event)
        except (RegistryError, UnavailableError):
            if part.digest is None:
                raise
            continue  # a training that began has a copy; `stage_models` finds out whether this one has
        check_declared(open_bundle(path), job, field)


def stage_models(job: Job, manifest: Manifest, directory: Path, on_event: EventHandler = ignore_event) -> Job:
    """Copy the trained models that a job names to its checkpoints; return the job with their digests.

    A training that resumes keeps the copies that it has: its result must not depend on an alias that has moved.

    Args:
        job: The job.
        manifest: Its dataset.
        directory: The job's directory.
        on_event: Receives a message about each model that is copied.

    Raises:
        UserError: There is no such model, it is damaged, or it does not fit the dataset.
        UnavailableError: MLflow does not answer.
    """
    changed: dict[str, Distill | Prune] = {}
    for field, name, part in model_fields(job):
        from farandole.bundle import open_bundle
        from farandole.bundle.compatibility import check_fitted
        from farandole.bundle.staged import (
            is_staged,
            record_digest,
            recorded_digest,
            stage_bundle,
            staged_bundle,
        )
        from farandole.preprocess import Preprocessing

        location = checkpoint_location(job, directory)
        digest = part.digest or recorded_digest(name, part.model, location)
        if digest is None or not is_staged(digest, location):
            bundle = open_bundle(_fetch(job, field, part, on_event))
            if digest not in (None, bundle.digest):
                raise ModelError(
                    f"train.{name}.digest: {digest}, and {part.model} is {bundle.digest}; name the version with that"
                    " digest, or remove the digest"
                )
            digest = bundle.digest
            stage_bundle(bundle, location)
            on_event(Message(f"{field}: {part.model} is {bundle.name}, {digest[:15]}"))
        record_digest(name, part.model, digest, location)
        with staged_bundle(digest, location, field) as copy:
            check_fitted(copy, Preprocessing.from_dict(manifest.preprocessing), field)
        changed[name] = part.model_copy(update={"digest": digest})
    return job.model_copy(update={"train": job.train.model_copy(update=changed)}) if changed else job


def _fetch(job: Job, field: str, part: Distill | Prune, on_event: EventHandler) -> Path:
    """Return the directory of a model's bundle on this machine; one of a known digest needs no MLflow."""
    from farandole.tracking.model_store.bundles import cached_bundle, fetch

    cached = None if part.digest is None else cached_bundle(part.digest)
    if cached is not None:
        return cached
    try:
        return fetch(part.model, on_event, tracking=job.tracking).path
    except (UserError, UnavailableError) as error:
        raise type(error)(f"{field}: {error}") from error
