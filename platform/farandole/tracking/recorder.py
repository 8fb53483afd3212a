"""Records a job in its one MLflow run: opened once, continued by later attempts, closed with the job's end.

Nothing here waits for the store: everything goes through the job's spool, and a thread sends it.
"""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from farandole.errors import UnavailableError
from farandole.events import EventHandler, Message, ignore_event
from farandole.shards import Manifest
from farandole.spec import Job, Tracking
from farandole.tracking.delivery import AuthError, Delivery, PermanentError
from farandole.tracking.provenance import flatten, list_packages, load_git_state, user_tags
from farandole.tracking.run_link import (
    RANK_ZERO_SPOOL,
    RunLink,
    open_run_link,
    pending_spools,
    read_run_id,
    read_run_link,
    spool_directory,
)
from farandole.tracking.sender import Sender, teller
from farandole.tracking.spool import Spool
from farandole.tracking.store import TrackingStore, resolve_store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FIRST_ANSWER_S = 10.0
"""How long a job waits at its start to hear that its store cannot be used."""
_BROKEN_PATIENCE_S = 2.0
"""How long a job that failed waits for the store: the next attempt must not wait, and sends what is left."""


@dataclass(frozen=True)
class DrainResult:
    """What has become of the records.

    Args:
        unsent: How many operations wait.
        model_uri: The model in the store, if it has come there.
    """

    unsent: int
    model_uri: str | None


class Recorder:
    """Writes into the spool of one process.

    Args:
        directory: The job's directory.
        spool: Its spool.
        sender: What sends it.
        delivery: How it is sent.
    """

    def __init__(self, directory: Path, spool: Spool, sender: Sender, delivery: Delivery) -> None:
        self._directory, self._spool, self._sender, self._delivery = directory, spool, sender, delivery
        self.keep_open = False
        """Set when the training stops and may go on later: the MLflow run is then left as it is, running."""
        self.history: dict[str, list[tuple[int, float]]] = {}
        """Every metric recorded by this attempt: name to (step, value)."""

    @property
    def run_id(self) -> str | None:
        """The id of the MLflow run; None while the store has not made it."""
        return read_run_id(self._directory)

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        """Record metrics at a step."""
        for name, value in values.items():
            self.history.setdefault(name, []).append((step, value))
        self.log_points(values, step)

    def log_points(self, values: dict[str, float], step: int) -> None:
        """The same, for what belongs to no history of the training."""
        now_ms = int(time.time() * 1000)
        self._append("metrics", points=[[name, float(value), now_ms, step] for name, value in values.items()])

    def log_params(self, job: Job) -> None:
        """Record the flattened spec. Params never change: what differs in a later attempt becomes a tag."""
        flat = flatten(job.model_dump(mode="json", exclude={"folder"}))
        self._append("params", params={name: str(value)[:6000] for name, value in flat.items()})

    def log_dataset(self, manifest: Manifest, directory: str) -> None:
        """Record the dataset as an input, under its content digest (MLflow keeps 36 characters of it)."""
        dataset = {
            "name": Path(directory).name,
            "digest": manifest.digest[:36],
            "source_type": urlsplit(directory).scheme or "local",
            "source": json.dumps({"uri": directory}),
            "profile": json.dumps({"rows": manifest.row_counts}),
        }
        self._append("dataset", dataset=dataset)
        self.log_file(
            "dataset/manifest.json", json.dumps(manifest.model_dump(mode="json", exclude={"splits"}), indent=2)
        )
        self.set_tags({"farandole.dataset_digest": manifest.digest})

    def log_provenance(self, folder: str | None) -> None:
        """Record the installed packages, and the git commit and changes of the user's folder."""
        self.log_file("environment/requirements.txt", list_packages())
        commit, changes = load_git_state(self._directory, folder)
        if commit:
            self.set_tags({"mlflow.source.git.commit": commit})
        if changes:
            self.log_file("environment/git.diff", changes)

    def set_tags(self, tags: dict[str, str]) -> None:
        """Set tags; unlike params they may change from attempt to attempt."""
        self._append("tags", tags=tags)

    def log_figure(self, figure: Figure, name: str) -> None:
        """Record a plot under `plots/`."""
        image = io.BytesIO()
        figure.savefig(image, format="png")
        self.log_file(f"plots/{name}.png", image.getvalue())

    def log_json(self, value: dict[str, Any], path: str) -> None:
        """Record plain data as a JSON file."""
        self.log_file(path, json.dumps(value, indent=1))

    def log_file(self, path: str, content: str | bytes) -> None:
        """Record a file, given by its path in the run and its content."""
        folder, _, name = path.rpartition("/")
        kept = self._spool.keep(name, content.encode() if isinstance(content, str) else content)
        self._append("file", file=kept, path=folder)

    def log_model(self, save: Callable[[Path], str | None], register_as: str | None) -> str | None:
        """Record a model.

        Args:
            save: Writes the model into an empty directory; returns why something is missing from it.
            register_as: The registered model that gets a version; None: none.

        Returns:
            What `save` returned.
        """
        name = self._spool.new_place()
        problem = save(self._spool.place(name))
        self._append("model", place=name, key=uuid.uuid4().hex, register_as=register_as)
        self._model_place = self._spool.place(name)
        return problem

    @property
    def model_directory(self) -> str:
        """Where the model lies while the store has not taken it."""
        return str(self._model_place)

    def drain(self, patience_s: float) -> DrainResult:
        """Wait until all is sent, or the store has not answered for `patience_s`."""
        self._sender.settle(patience_s)
        return DrainResult(self._spool.waiting, self._delivery.model_uri)

    def _append(self, kind: str, **fields: Any) -> None:
        self._spool.append({"op": kind, **fields})
        self._sender.wake()

    def open(self, name: str, tracking: Tracking, store: TrackingStore) -> None:
        """Make the run, or go on with it."""
        artifacts = store.artifacts and (
            store.artifacts if "://" in store.artifacts else Path(store.artifacts).as_uri()
        )
        self._append("open", name=name, experiment=tracking.experiment, artifacts=artifacts, tags=user_tags())

    def withdraw(self) -> None:
        """Leave nothing behind of a job that could not begin to record; what an earlier attempt left stays."""
        entries = self._spool.next(2)
        if len(entries) == 1:
            self._spool.acknowledge(entries[0])

    def close(self, status: str) -> None:
        """Say how the run ended."""
        self._append("close", status=status, time_ms=int(time.time() * 1000))


@contextmanager
def record_run(
    tracking: Tracking,
    directory: Path,
    on_event: EventHandler = ignore_event,
    on_run: Callable[[str], None] = lambda run_id: None,
    parent: Path | None = None,
) -> Iterator[Recorder]:
    """Record in the MLflow run of a directory; it is named after the directory.

    Args:
        tracking: Where the job is recorded.
        directory: The job's directory.
        on_event: Is told when the store does not answer, and when it does again.
        on_run: Is told the MLflow run's id when it is known.
        parent: The directory whose run is the parent of a new one.

    Raises:
        EnvironmentLacking: The store refuses this user, or cannot be one. A store that does not answer is waited for.
    """
    store = resolve_store(tracking)
    record = open_run_link(directory, store.shown, None if parent is None else str(parent))
    with open_recorder(store, directory, record, on_event, on_run) as recorder:
        recorder.open(directory.name, tracking, store)
        refusal = recorder._sender.first_answer(_FIRST_ANSWER_S)
        if isinstance(refusal, AuthError | PermanentError):
            recorder.withdraw()
            raise UnavailableError(
                f"tracking.uri: {store.shown}: the MLflow store cannot be used ({refusal}); mend tracking.uri, or its"
                " user and password"
            )
        status: Literal["FAILED", "FINISHED"] = "FAILED"
        try:
            yield recorder
            status = "FINISHED"
        finally:
            if not recorder.keep_open:
                recorder.close(status)
            patience_s = tracking.wait_s if status == "FINISHED" else min(_BROKEN_PATIENCE_S, tracking.wait_s)
            unsent = recorder.drain(patience_s).unsent
            if unsent and status == "FINISHED":
                on_event(Message(unsent_message(unsent, store, directory), level="warning"))


def close_run(
    tracking: Tracking, directory: Path, status: Literal["FAILED", "KILLED"], on_event: EventHandler = ignore_event
) -> None:
    """Say that a run has ended whose own process could not say it any more, and send what that process left."""
    record = read_run_link(directory)
    if record is None or (read_run_id(directory) is None and not pending_spools(directory)):
        return  # nothing was ever recorded
    store = resolve_store(tracking)
    with open_recorder(store, directory, record) as recorder:
        recorder.close(status)
        unsent = recorder.drain(min(_BROKEN_PATIENCE_S, tracking.wait_s)).unsent
        if unsent:
            on_event(Message(unsent_message(unsent, store, directory), level="warning"))


def tag_run(tracking: Tracking, directory: Path, tags: dict[str, str]) -> None:
    """Set tags of a run whose own process has ended; where the store does not answer, they wait with the rest."""
    record = read_run_link(directory)
    if record is None or (read_run_id(directory) is None and not pending_spools(directory)):
        return
    with open_recorder(resolve_store(tracking), directory, record) as recorder:
        recorder.set_tags(tags)
        recorder.drain(min(_BROKEN_PATIENCE_S, tracking.wait_s))


def unsent_message(unsent: int, store: TrackingStore, directory: Path) -> str:
    """What a user is told whose records wait."""
    return (
        f"{store.shown}: MLflow has not taken everything; {unsent} records wait in {spool_directory(directory)}; send"
        f" them with `farandole sync {directory.name}` when it answers again"
    )


@contextmanager
def open_recorder(
    store: TrackingStore,
    directory: Path,
    record: RunLink,
    on_event: EventHandler = ignore_event,
    on_run: Callable[[str], None] = lambda run_id: None,
    name: str = RANK_ZERO_SPOOL,
) -> Iterator[Recorder]:
    """A spool of a directory, and the thread that sends it, for the length of the block.

    Args:
        store: The store.
        directory: The job's directory.
        record: What it knows of its run.
        on_event: Is told when the store does not answer, and when it does again.
        on_run: Is told the MLflow run's id when it is known.
        name: The spool's name.
    """
    spool = Spool(spool_directory(directory, name))
    delivery = Delivery(store, directory, record, on_run)
    sender = Sender(spool, delivery, teller(on_event), store.shown)
    sender.start()
    try:
        yield Recorder(directory, spool, sender, delivery)
    finally:
        if sender.stop():
            spool.close()  # else a request hangs, and the spool stays this process's until it ends
