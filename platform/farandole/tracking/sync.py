"""Sends what jobs have recorded and a store has not taken, long after they have ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from farandole.errors import SpecError, UnavailableError
from farandole.events import EventHandler, ignore_event
from farandole.spec import Tracking
from farandole.storage import home
from farandole.tracking.delivery import AuthError, Delivery, PermanentError
from farandole.tracking.run_link import RunLink, pending_spools, read_run_id, read_run_link
from farandole.tracking.sender import Sender, teller
from farandole.tracking.spool import Spool
from farandole.tracking.store import TrackingStore, resolve_store

_PATIENCE_S = 10.0


@dataclass(frozen=True)
class SyncResult:
    """What has been sent of one job.

    Args:
        id: The job's id.
        store: The store's URI, without user and password.
        sent: How many records it has taken.
        unsent: How many wait still.
        mlflow_run_id: The MLflow run, if there is one.
        model_uri: The model that was sent, if one was.
        problem: Why some wait still.
    """

    id: str
    store: str
    sent: int
    unsent: int
    mlflow_run_id: str | None
    model_uri: str | None
    problem: str | None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def sync(
    job_id: str | None = None, *, uri: str | None = None, on_event: EventHandler = ignore_event
) -> list[SyncResult]:
    """Send what waits.

    Args:
        job_id: The job, or sweep; None: all of which something waits.
        uri: The store's address, if it has moved. Default: where the job was recorded; user and password come from
            MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or from MLFLOW_TRACKING_URI.
        on_event: Is told of problems on the way.

    Raises:
        SpecError: There is no such job, or it still runs.
    """
    # Sweeps first: trials hang on the run of their sweep.
    directories = [path for folder in ("sweeps", "jobs") for path in sorted((home() / folder).glob("*"))]
    if job_id is not None:
        directories = [path for path in directories if path.name == job_id]
        if not directories:
            raise SpecError(f"{job_id}: no job or sweep of this id has run here; `ls {home() / 'jobs'}` shows them")
    done = []
    for directory in directories:
        record = read_run_link(directory)
        spools = pending_spools(directory)
        if record is None or not spools:
            continue
        try:
            synced = _sync(directory, record, spools, uri, on_event)
        except SpecError:
            if job_id is not None:
                raise
            continue  # a job that still runs sends its records itself
        if synced.sent or synced.unsent:
            done.append(synced)
    return done


def _sync(directory: Path, record: RunLink, spools: list[Path], uri: str | None, on_event: EventHandler) -> SyncResult:
    store = _store(record, uri)
    sent = unsent = 0
    problem = model_uri = None
    for place in spools:
        spool = Spool(place)
        delivery = Delivery(store, directory, record)
        waited = spool.waiting
        if not waited:
            spool.close()
            continue
        sender = Sender(spool, delivery, teller(on_event), store.shown)
        sender.start()
        try:
            refusal = sender.first_answer(_PATIENCE_S)
            if isinstance(refusal, AuthError | PermanentError):
                problem = str(refusal)
            else:
                sender.settle(_PATIENCE_S)
        finally:
            left = spool.waiting
            if sender.stop():
                spool.close()
        sent, unsent = sent + waited - left, unsent + left
        model_uri = delivery.model_uri or model_uri
    if unsent and problem is None:
        problem = "the store does not answer"
    return SyncResult(directory.name, store.shown, sent, unsent, read_run_id(directory), model_uri, problem)


def _store(record: RunLink, uri: str | None) -> TrackingStore:
    """The store of a record. Its URI was kept without user and password, which come from the environment."""
    if uri is not None:
        return resolve_store(Tracking(uri=uri))
    now = resolve_store(Tracking())
    if now.shown == record.store:
        return now
    if not record.store.startswith(("http://", "https://", "sqlite:///")):
        raise UnavailableError(
            f"{record.store}: its user, if any, was not kept; set MLFLOW_TRACKING_URI to the whole URI of the store"
        )
    return resolve_store(Tracking(uri=record.store))
