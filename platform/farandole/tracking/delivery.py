"""Carries out recorded operations on an MLflow store. Each may be tried again at any time: the store takes it once."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException, RestException
from mlflow.models import Model

from farandole.tracking.run_link import RunLink, read_run_id, write_run_id
from farandole.tracking.spool import Operation
from farandole.tracking.store import TrackingStore

_KEY = "farandole.record"
_POINTS_PER_REQUEST = 1000
_TRY_AGAIN = (408, 409, 425, 429)
_FILES = ("file", "model")


class PermanentError(Exception):
    """The store understood an operation, and will never take it."""


class AuthError(Exception):
    """The store does not let this user in, or is no MLflow store: waiting does not mend that."""


class TransientError(Exception):
    """The store does not answer; it may do so later."""


class Delivery:
    """The way from one directory to its MLflow run.

    Args:
        store: The store.
        directory: The directory whose run it is.
        record: What the directory knows of the run.
        on_run: Is told the run's id when it is known.
    """

    def __init__(
        self,
        store: TrackingStore,
        directory: Path,
        record: RunLink,
        on_run: Callable[[str], None] = lambda run_id: None,
    ) -> None:
        _prepare_mlflow()
        self._uri = _sign_in(store)
        self._store = store
        self._directory = directory
        self._record = record
        self._on_run = on_run
        self._told = False
        self.model_uri: str | None = None
        """The model that was delivered last: registered, or logged only."""

    def deliver(self, operations: list[Operation], files: Path) -> int:
        """Carry out the first operation; metrics together with those that follow.

        Args:
            operations: What waits, in order; at least one.
            files: Where the files of operations lie.

        Returns:
            How many were carried out.

        Raises:
            Rejected: The store will never take it.
            Refused: The store lets nobody in.
            Unreachable: Try again later.
        """
        kind = operations[0]["op"]
        try:
            if kind == "metrics":
                return self._metrics(operations)
            getattr(self, f"_{kind}")(operations[0], files)
        except (PermanentError, AuthError, TransientError):
            raise
        except Exception as error:  # databases and artifact stores raise what their own libraries raise
            raise self._meaning(error) from error
        return 1

    def deliver_points(self, operation: Operation) -> list[str]:
        """Metrics of a step one by one; returns why some were rejected."""
        reasons = []
        for point in operation["points"]:
            try:
                self.deliver([{"op": "metrics", "points": [point]}], self._directory)
            except PermanentError as error:
                reasons.append(str(error))
        return reasons

    def may_come_later(self, operation: Operation) -> bool:
        """Whether a failed operation need not hold up those behind it: a file, while the store itself answers."""
        run_id = read_run_id(self._directory)
        if operation["op"] not in _FILES or run_id is None:
            return False
        try:
            self._client.get_run(run_id)
        except (MlflowException, OSError):
            return False
        return True

    @cached_property
    def _client(self) -> mlflow.MlflowClient:
        """Made when it is needed: for a database, MLflow connects at once, and tries for minutes."""
        if _unknown_host(self._store):
            raise AuthError(f"there is no host {urlsplit(self._store.uri).hostname}")
        _check_database_file(self._store)
        return mlflow.MlflowClient(self._uri, registry_uri=self._uri)

    @property
    def _run_id(self) -> str:
        run_id = read_run_id(self._directory)
        if run_id is None:
            raise TransientError(f"the MLflow run of {self._directory} has not been made yet")
        return run_id

    # One method for each kind of operation -------------------------------------------------------------------

    def _open(self, operation: Operation, files: Path) -> None:
        """Make the run, or go on with it."""
        run_id = read_run_id(self._directory)
        if run_id is None:
            run_id = self._find_or_make_run(operation)
            write_run_id(self._directory, run_id)
        else:
            self._client.update_run(run_id, status="RUNNING")
        if not self._told:
            self._told = True
            self._on_run(run_id)

    def _find_or_make_run(self, operation: Operation) -> str:
        experiment_id = self._experiment(operation["experiment"], operation["artifacts"])
        found = self._client.search_runs([experiment_id], f"tags.`{_KEY}` = '{self._record.key}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {**operation["tags"], _KEY: self._record.key}
        if self._record.parent is not None:
            parent_id = read_run_id(Path(self._record.parent))
            if parent_id is None:
                raise TransientError(f"the MLflow run of {self._record.parent} has not been made yet")
            tags["mlflow.parentRunId"] = parent_id
        run = self._client.create_run(experiment_id, self._record.started_ms, tags, operation["name"])
        return str(run.info.run_id)

    def _experiment(self, name: str, artifacts: str | None) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(name, artifacts))
        except MlflowException:
            again = self._client.get_experiment_by_name(name)  # another job may have been faster
            if again is None:
                raise
            return str(again.experiment_id)

    def _metrics(self, operations: list[Operation]) -> int:
        """All points up to the first operation of another kind. MLflow drops a point that it has: same name, step,
        time and value."""
        points: list[Metric] = []
        count = 0
        for operation in operations:
            if operation["op"] != "metrics" or (
                points and len(points) + len(operation["points"]) > _POINTS_PER_REQUEST
            ):
                break
            points += [Metric(name, value, time_ms, step) for name, value, time_ms, step in operation["points"]]
            count += 1
        for start in range(0, len(points), _POINTS_PER_REQUEST):
            self._client.log_batch(self._run_id, metrics=points[start : start + _POINTS_PER_REQUEST])
        return count

    def _params(self, operation: Operation, files: Path) -> None:
        """Params never change: what differs in a later attempt (a job resumed with more epochs) becomes a tag."""
        params: dict[str, str] = operation["params"]
        known = self._client.get_run(self._run_id).data.params
        fresh = [Param(name, value) for name, value in params.items() if name not in known]
        for start in range(0, len(fresh), 100):  # the most that MLflow takes at once
            self._client.log_batch(self._run_id, params=fresh[start : start + 100])
        changed = {name: value for name, value in params.items() if known.get(name, value) != value}
        self._tags({"tags": {f"farandole.changed.{name}": value for name, value in changed.items()}}, files)

    def _tags(self, operation: Operation, files: Path) -> None:
        tags = [RunTag(name, value) for name, value in operation["tags"].items()]
        if tags:
            self._client.log_batch(self._run_id, tags=tags)

    def _dataset(self, operation: Operation, files: Path) -> None:
        dataset = Dataset(**operation["dataset"])
        context = InputTag("mlflow.data.context", "training")
        self._client.log_inputs(self._run_id, [DatasetInput(dataset, [context])])

    def _file(self, operation: Operation, files: Path) -> None:
        self._client.log_artifact(self._run_id, str(files / operation["file"]), operation["path"])

    def _model(self, operation: Operation, files: Path) -> None:
        """Log a saved model, and add a model version."""
        run = self._client.get_run(self._run_id)
        place, key = files / operation["place"], operation["key"]
        found = self._client.search_logged_models([run.info.experiment_id], f"tags.`{_KEY}` = '{key}'", max_results=1)
        made = found[0] if found else self._client.create_logged_model(
            run.info.experiment_id, name="model", source_run_id=run.info.run_id, tags={_KEY: key}
        )  # fmt: skip
        if str(made.status) != "READY":
            saved = Model.load(str(place))
            saved.model_id, saved.model_uuid = made.model_id, made.model_id
            saved.run_id, saved.artifact_path = run.info.run_id, made.artifact_location
            saved.save(str(place / "MLmodel"))
            self._client.log_model_artifacts(made.model_id, str(place))
            made = self._client.finalize_logged_model(made.model_id, "READY")
        if made.model_id not in [output.model_id for output in (run.outputs.model_outputs if run.outputs else ())]:
            self._client.log_outputs(run.info.run_id, [LoggedModelOutput(made.model_id, step=0)])
        self.model_uri = f"models:/{made.model_id}"
        if operation["register_as"] is not None:
            self.model_uri = self._register(operation["register_as"], made, run.info.run_id)

    def _register(self, name: str, made: Any, run_id: str) -> str:
        for version in self._client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
            if version.source in (made.artifact_location, f"models:/{made.model_id}"):
                return f"models:/{name}/{version.version}"
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = self._client.create_model_version(name, made.artifact_location, run_id, model_id=made.model_id)
        versions = [
            *json.loads(made.tags.get("mlflow.modelVersions", "[]")),
            {"name": name, "version": version.version},
        ]
        self._client.set_logged_model_tags(made.model_id, {"mlflow.modelVersions": json.dumps(versions)})
        return f"models:/{name}/{version.version}"

    def _close(self, operation: Operation, files: Path) -> None:
        """Say how the run ended; one that has ended stays as it is."""
        if self._client.get_run(self._run_id).info.status == "RUNNING":
            self._client.set_terminated(self._run_id, operation["status"], operation["time_ms"])

    def _meaning(self, error: Exception) -> Exception:
        """What a failure means for the operation."""
        shown = " ".join(str(error).replace(self._store.uri, self._store.shown).split())[:300]
        if not isinstance(error, MlflowException):
            return TransientError(f"{type(error).__name__}: {shown}")
        status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
        if status in (401, 403):
            return AuthError(shown)
        if 400 <= status < 500 and status not in _TRY_AGAIN:
            # What says no in another form than MLflow's may be a proxy whose server is away.
            spoken = isinstance(error, RestException) or not self._store.is_server
            return PermanentError(shown) if spoken else AuthError(shown)
        return TransientError(shown)


def _unknown_host(store: TrackingStore) -> bool:
    """Whether the name of a host means nothing, as opposed to a name service that does not answer."""
    parts = urlsplit(store.uri)
    if not parts.hostname:
        return False
    try:
        socket.getaddrinfo(parts.hostname, None)
    except socket.gaierror as error:
        return error.errno == socket.EAI_NONAME
    except UnicodeError:
        return True  # no name of a host is written so
    return False


def _check_database_file(store: TrackingStore) -> None:
    """A database that is a file can be opened now or never; MLflow would try for minutes."""
    if not store.uri.startswith("sqlite:///"):
        return
    path = Path(store.uri.removeprefix("sqlite:///").partition("?")[0])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
                connection.execute("PRAGMA schema_version")
    except OSError as error:
        raise AuthError(f"{error.filename}: {error.strerror}") from error
    except sqlite3.DatabaseError as error:
        if "locked" not in str(error):
            raise AuthError(f"{path}: {error}") from error


def _prepare_mlflow() -> None:
    """Its links and bars say less than the job's own words; and tries and pauses are the sender's."""
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


def _sign_in(store: TrackingStore) -> str:
    """The URI for MLflow. A server's user and password go by variables: MLflow's errors show the URI as it is."""
    parts = urlsplit(store.uri)
    if not store.is_server or parts.username is None:
        return store.uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return store.shown
