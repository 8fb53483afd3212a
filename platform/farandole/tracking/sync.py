"""Delivery of the records that a store has not accepted, after the jobs have ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from farandole.errors import SpecError, UnavailableError
from farandole.events import EventHandler, ignore_event
from farandole.jobdir.layout import jobs_folder, sweeps_folder
from farandole.spec import Tracking
from farandole.storage import sqlite_path
from farandole.tracking.client import TransientError
from farandole.tracking.delivery import Delivery
from farandole.tracking.run_link import RunLink, pending_spools, read_run_id, read_run_link
from farandole.tracking.sender import Sender
from farandole.tracking.spool import Spool
from farandole.tracking.store import TrackingStore, resolve_store

_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class SyncResult:
    """The outcome for one job.

    Args:
        id: Id of the job.
        store: URI of the store, without user name and password.
        sent: Number of records that the store accepted.
        unsent: Number of records that are still pending.
        mlflow_run_id: The MLflow run, if it exists.
        model_uri: The model that was sent, if any.
        problem: The reason if records are still pending.
    """

    id: str
    store: str
    sent: int
    unsent: int
    mlflow_run_id: str | None
    model_uri: str | None
    problem: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        return asdict(self)


def sync(
    job_id: str | None = None, *, uri: str | None = None, on_event: EventHandler = ignore_event
) -> list[SyncResult]:
    """Send pending records.

    Args:
        job_id: The job or sweep; None sends those of all jobs that have pending records.
        uri: The URI of the store, if it has moved. Default: the store where the job was recorded, with the credentials
            in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or in MLFLOW_TRACKING_URI.
        on_event: Receives warnings.

    Raises:
        SpecError: The job does not exist, or is running.
    """
    # Sweeps first, since the runs of trials need the run of their sweep as parent.
    directories = [path for folder in (sweeps_folder(), jobs_folder()) for path in sorted(folder.glob("*"))]
    if job_id is not None:
        directories = [path for path in directories if path.name == job_id]
        if not directories:
            raise SpecError(f"{job_id}: no job or sweep with this id has run here; `ls {jobs_folder()}` lists the jobs")
    results = []
    for directory in directories:
        link = read_run_link(directory)
        spools = pending_spools(directory)
        if link is None or not spools:
            continue
        try:
            result = _sync_job(directory, link, spools, uri, on_event)
        except SpecError:
            if job_id is not None:
                raise
            continue  # a running job sends its records itself
        if result.sent or result.unsent:
            results.append(result)
    return results


def _sync_job(
    directory: Path, link: RunLink, spools: list[Path], uri: str | None, on_event: EventHandler
) -> SyncResult:
    store = _find_store(link, uri)
    sent = unsent = 0
    problem = model_uri = None
    for path in spools:
        spool = Spool(path)
        delivery = Delivery(store, directory, link)
        pending = spool.pending
        if not pending:
            spool.close()
            continue
        sender = Sender(spool, delivery, on_event, store.shown)
        sender.start()
        try:
            error = sender.first_answer(_TIMEOUT_S)
            if error is not None and not isinstance(error, TransientError):
                problem = str(error)
            else:
                sender.drain(_TIMEOUT_S)
        finally:
            left = spool.pending
            if sender.stop():
                spool.close()
        sent, unsent = sent + pending - left, unsent + left
        model_uri = delivery.model_uri or model_uri
    if unsent and problem is None:
        problem = "the store does not answer"
    return SyncResult(directory.name, store.shown, sent, unsent, read_run_id(directory), model_uri, problem)


def _find_store(link: RunLink, uri: str | None) -> TrackingStore:
    """Return the store of a link, whose URI lacks the credentials; those come from the environment."""
    if uri is not None:
        return resolve_store(Tracking(uri=uri))
    current = resolve_store(Tracking())
    if current.shown == link.store:
        return current
    if not link.store.startswith(("http://", "https://")) and sqlite_path(link.store) is None:
        raise UnavailableError(
            f"{link.store}: the URI was stored without credentials; set MLFLOW_TRACKING_URI to the store's full URI"
        )
    return resolve_store(Tracking(uri=link.store))
