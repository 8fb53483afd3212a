"""The recorder of a job in its MLflow run, which later attempts continue and the end of the job closes.

Nothing here waits for the store: the recorder appends to the job's spool, and a thread sends it.
"""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

from farandole.errors import SpecError, UnavailableError
from farandole.events import EventHandler, Message, format_count, ignore_event
from farandole.process.json_text import json_text
from farandole.shards import Manifest
from farandole.spec import Job, Tracking, job_text
from farandole.storage import file_uri, is_uri
from farandole.tracking.client import AuthError, DeletedExperimentError, TransientError
from farandole.tracking.delivery import Delivery
from farandole.tracking.provenance import list_packages, load_git_state, user_tags
from farandole.tracking.run_link import (
    RANK_ZERO_SPOOL,
    RunLink,
    open_run_link,
    pending_spools,
    read_run_id,
    read_run_link,
    spool_directory,
)
from farandole.tracking.run_summary import (
    DIGEST_CHARACTERS,
    changed_params,
    describe_column,
    describe_run,
    describe_version,
    name_run,
    runs_view,
)
from farandole.tracking.sender import Sender
from farandole.tracking.spool import Spool
from farandole.tracking.store import TrackingStore, resolve_store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FIRST_ANSWER_TIMEOUT_S = 10.0
"""Time that a job waits at its start for an error of an unusable store."""
_FAILED_JOB_TIMEOUT_S = 2.0
"""Time that a failed job waits for the store. The next attempt must start soon, and sends what is left."""


@dataclass(frozen=True)
class DrainResult:
    """The state of the spool after draining.

    Args:
        unsent: Number of pending operations.
        model_uri: The model in the store, if it was sent.
    """

    unsent: int
    model_uri: str | None


@dataclass(frozen=True)
class ModelCard:
    """Description of a logged model and of its registered version, for MLflow.

    Args:
        name: The model's name.
        step: The step of its weights.
        metrics: Its metrics, by name.
        dataset: Name and digest of the dataset, as it was logged.
        description: The description of the registered version, in Markdown.
        tags: Tags of the registered version.
    """

    name: str
    step: int
    metrics: dict[str, float]
    dataset: dict[str, str]
    description: str
    tags: dict[str, str]


class Recorder:
    """A writer to the spool of one process.

    Args:
        directory: The job's directory.
        spool: The spool.
        sender: The thread that sends the spool.
        delivery: The writer to the store.
    """

    def __init__(self, directory: Path, spool: Spool, sender: Sender, delivery: Delivery) -> None:
        self._directory, self._spool, self._sender, self._delivery = directory, spool, sender, delivery
        self.keep_open = False
        """True if the training stops and may resume later; its MLflow run then keeps the status `RUNNING`."""
        self.commit: str | None = None
        """The git commit of the user's folder, once the provenance was logged."""
        self.history: dict[str, list[tuple[int, float]]] = {}
        """The metrics of this attempt: name to pairs of step and value."""

    @property
    def run_id(self) -> str | None:
        """The id of the MLflow run; None until the store has created it."""
        return read_run_id(self._directory)

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        """Log metrics of a step, and add them to the history."""
        for name, value in values.items():
            self.history.setdefault(name, []).append((step, value))
        self.log_points(values, step)

    def log_points(self, values: dict[str, float], step: int) -> None:
        """Log metrics of a step that are not part of the training's history."""
        now_ms = int(time.time() * 1000)
        self._append("metrics", points=[[name, float(value), now_ms, step] for name, value in values.items()])

    def log_params(self, job: Job) -> None:
        """Log the fields that differ from their defaults as params, and the whole job as artifacts.

        Params are immutable: a value that differs in a later attempt becomes a tag.
        """
        self._append("params", params=changed_params(job))
        self.log_file("job/job.yaml", job_text(job))
        self.log_file("job/all_fields.json", job.model_dump_json(indent=1, exclude={"folder"}))

    def describe(self, job: Job, manifest: Manifest, metrics: Mapping[str, Mapping[str, float]] | None = None) -> None:
        """Set the description of the run, which MLflow shows above it.

        Args:
            job: The job.
            manifest: Its dataset.
            metrics: Column of the table of results to metrics; None while the training runs.
        """
        link = read_run_link(self._directory)
        text = describe_run(job, manifest, link.command if link else None, metrics)
        self.set_tags({"mlflow.note.content": text})

    def describe_version(self, card: str) -> str:
        """Return the description of the registered version, given the card of its model."""
        link = read_run_link(self._directory)
        return describe_version(card, link.command if link else None)

    def log_dataset(self, manifest: Manifest, directory: str) -> None:
        """Log the dataset as an input, with the beginning of its content digest and the types of its raw columns."""
        rows = manifest.row_counts
        columns = manifest.preprocessing.get("types", {})
        dataset = {
            **dataset_identity(manifest, directory),
            "source_type": urlsplit(directory).scheme or "local",
            "source": json.dumps({"uri": directory}),
            "schema": json.dumps({"mlflow_colspec": [describe_column(name, kind) for name, kind in columns.items()]}),
            "profile": json.dumps({"rows": rows, "num_rows": sum(rows.values())}),
        }
        self._append("dataset", dataset=dataset)
        document = manifest.model_dump(mode="json", exclude={"splits"})
        self.log_file("dataset/manifest.json", json.dumps(document, indent=2))
        self.set_tags({"farandole.dataset_digest": manifest.digest[:DIGEST_CHARACTERS]})

    def log_provenance(self, folder: str | None) -> None:
        """Log the installed packages, and the git commit and changes of the user's folder."""
        self.log_file("environment/requirements.txt", list_packages())
        commit, changes = load_git_state(self._directory, folder)
        self.commit = commit
        if commit:
            self.set_tags({"mlflow.source.git.commit": commit})
        if changes:
            self.log_file("environment/git.diff", changes)

    def set_tags(self, tags: dict[str, str]) -> None:
        """Set tags; unlike params, they may change from attempt to attempt."""
        self._append("tags", tags=tags)

    def log_figure(self, figure: Figure, name: str) -> None:
        """Log a plot as `plots/NAME.png`."""
        image = io.BytesIO()
        figure.savefig(image, format="png")
        self.log_file(f"plots/{name}.png", image.getvalue())

    def log_json(self, value: dict[str, Any], path: str) -> None:
        """Log plain data as a JSON file."""
        self.log_file(path, json_text(value, indent=1))

    def log_file(self, path: str, content: str | bytes) -> None:
        """Log a file, given its path within the run's artifacts and its content."""
        folder, _, name = path.rpartition("/")
        file = self._spool.store_file(name, content.encode() if isinstance(content, str) else content)
        self._append("file", file=file, path=folder)

    def log_model(
        self, save: Callable[[Path], str | None], register_as: str | None, card: ModelCard | None = None
    ) -> str | None:
        """Log a model.

        Args:
            save: Writes the model into an empty directory; returns the reason if something is missing from it.
            register_as: Name of the registered model that gets a new version; None registers nothing.
            card: What MLflow shows of the model.

        Returns:
            The result of `save`.
        """
        name = self._spool.new_folder()
        problem = save(self._spool.files / name)
        shown = {} if card is None else {"card": asdict(card), "time_ms": int(time.time() * 1000)}
        self._append("model", place=name, key=uuid.uuid4().hex, register_as=register_as, **shown)
        self._model_directory = self._spool.files / name
        return problem

    @property
    def model_directory(self) -> str:
        """The URI of the model's directory, unless the store has accepted it."""
        rejected = self._spool.rejected_files / self._model_directory.name
        return file_uri(rejected if rejected.exists() else self._model_directory)

    def drain(self, timeout_s: float) -> DrainResult:
        """Wait until everything is sent, or the store has not answered for `timeout_s`."""
        self._sender.drain(timeout_s)
        return DrainResult(self._spool.pending, self._delivery.model_uri)

    def open(self, name: str, tracking: Tracking, store: TrackingStore, view: str | None = None) -> None:
        """Create the run, or continue it.

        Args:
            name: The name of a new run.
            tracking: The tracking section of the job.
            store: The store.
            view: The view of the runs of a new experiment.

        Raises:
            SpecError: The experiment is deleted.
            UnavailableError: The store cannot be used. If it does not answer, the operation stays in the spool.
        """
        job_id = self._directory.name
        experiment = tracking.experiment.replace("{name}", job_id)  # recorded without a job
        tags = {**user_tags(), "farandole.job": job_id}
        self._append("open", name=name, experiment=experiment, artifacts=store.artifacts_uri, tags=tags, view=view)
        error = self._sender.first_answer(_FIRST_ANSWER_TIMEOUT_S)
        if error is None or isinstance(error, TransientError):
            return
        self._withdraw_open()
        if isinstance(error, DeletedExperimentError):
            raise SpecError(f"tracking.experiment: {error}")
        if isinstance(error, AuthError):
            raise UnavailableError(f"tracking.uri: {error}")
        raise UnavailableError(
            f"tracking.uri: {store.shown}: the MLflow store cannot be used ({error}); correct tracking.uri"
        )

    def close(self, status: str) -> None:
        """Set the status with which the run ends."""
        self._append("close", status=status, time_ms=int(time.time() * 1000))

    def require_run(self, store: TrackingStore) -> None:
        """Check that a database which did not answer at the start of the job may still do so; a server always may.

        Raises:
            UnavailableError: It rejects the run, which would otherwise be missing from a job that succeeded.
        """
        error = None if store.is_server else self._sender.last_error
        if self.run_id is None and error is not None and not isinstance(error, TransientError):
            raise UnavailableError(
                f"tracking.uri: {store.shown}: the MLflow store cannot be used ({error}); the results are kept in"
                f" {self._directory}: correct tracking.uri, and send them with"
                f" `farandole sync {self._directory.name} --uri URI`"
            )

    def _withdraw_open(self) -> None:
        """Remove the operation that opens the run, unless an earlier attempt left other operations in the spool."""
        operations = self._spool.peek(2)
        if len(operations) == 1:
            self._spool.acknowledge(operations[0])

    def _append(self, kind: str, **fields: Any) -> None:
        self._spool.append({"op": kind, **fields})
        self._sender.wake()


def dataset_identity(manifest: Manifest, directory: str) -> dict[str, str]:
    """Return the name and the digest under which MLflow knows a dataset."""
    name = unquote(urlsplit(directory).path if is_uri(directory) else directory).rstrip("/").rpartition("/")[2]
    return {"name": name, "digest": manifest.digest[:DIGEST_CHARACTERS]}


@contextmanager
def record_run(
    tracking: Tracking,
    directory: Path,
    on_event: EventHandler = ignore_event,
    on_run: Callable[[str], None] = lambda run_id: None,
    parent: Path | None = None,
    job: Job | None = None,
) -> Iterator[Recorder]:
    """Record in the MLflow run of a directory.

    Args:
        tracking: The tracking section of the job.
        directory: The job's directory.
        on_event: Receives a warning when the store stops answering, and a message when it answers again.
        on_run: Called with the MLflow run's id once it is known.
        parent: The directory whose run is the parent of a new run.
        job: The job that names a new run. Default: the run has the directory's name.

    Raises:
        SpecError: The experiment is deleted.
        UnavailableError: The store rejects the credentials or cannot be used. It need not answer yet.
    """
    store = resolve_store(tracking)
    link = open_run_link(directory, store.shown, None if parent is None else str(parent))
    with open_recorder(store, directory, link, on_event, on_run) as recorder:
        name = directory.name if job is None else name_run(job, directory, link)
        recorder.open(name, tracking, store, None if job is None else runs_view(job))
        status: Literal["FAILED", "FINISHED"] = "FAILED"
        try:
            yield recorder
            status = "FINISHED"
        finally:
            if not recorder.keep_open:
                recorder.close(status)
            timeout_s = tracking.wait_s if status == "FINISHED" else min(_FAILED_JOB_TIMEOUT_S, tracking.wait_s)
            unsent = recorder.drain(timeout_s).unsent
            if unsent and status == "FINISHED":
                on_event(_unsent_warning(unsent, store, directory))
        recorder.require_run(store)


def close_run(
    tracking: Tracking, directory: Path, status: Literal["FAILED", "KILLED"], on_event: EventHandler = ignore_event
) -> None:
    """Close the run of a process that could not close it itself, and send the operations that it left."""
    link = _find_recorded_run(directory)
    if link is None:
        return
    store = resolve_store(tracking)
    with open_recorder(store, directory, link) as recorder:
        recorder.close(status)
        unsent = recorder.drain(min(_FAILED_JOB_TIMEOUT_S, tracking.wait_s)).unsent
        if unsent:
            on_event(_unsent_warning(unsent, store, directory))


def tag_run(tracking: Tracking, directory: Path, tags: dict[str, str]) -> None:
    """Set tags of a run whose process has ended; if the store does not answer, they stay in the spool."""
    link = _find_recorded_run(directory)
    if link is None:
        return
    with open_recorder(resolve_store(tracking), directory, link) as recorder:
        recorder.set_tags(tags)
        recorder.drain(min(_FAILED_JOB_TIMEOUT_S, tracking.wait_s))


def _find_recorded_run(directory: Path) -> RunLink | None:
    """Return the link to a run; None if the run was not created and no operation is pending."""
    link = read_run_link(directory)
    if link is None or (read_run_id(directory) is None and not pending_spools(directory)):
        return None
    return link


def _unsent_warning(unsent: int, store: TrackingStore, directory: Path) -> Message:
    return Message(
        f"{store.shown}: MLflow has not accepted {format_count(unsent, 'record')}, kept in"
        f" {spool_directory(directory)}; send them with `farandole sync {directory.name}` when it answers again",
        level="warning",
    )


@contextmanager
def open_recorder(
    store: TrackingStore,
    directory: Path,
    link: RunLink,
    on_event: EventHandler = ignore_event,
    on_run: Callable[[str], None] = lambda run_id: None,
    name: str = RANK_ZERO_SPOOL,
) -> Iterator[Recorder]:
    """Own a spool of a directory, and send it in a thread, for the length of the block.

    Args:
        store: The store.
        directory: The job's directory.
        link: The link to its run.
        on_event: Receives a warning when the store stops answering, and a message when it answers again.
        on_run: Called with the MLflow run's id once it is known.
        name: Name of the spool.
    """
    spool = Spool(spool_directory(directory, name))
    delivery = Delivery(store, directory, link, on_run)
    sender = Sender(spool, delivery, on_event, store.shown)
    sender.start()
    try:
        yield Recorder(directory, spool, sender, delivery)
    finally:
        if sender.stop():
            spool.close()  # otherwise a request is still running, and the process owns the spool until it ends
