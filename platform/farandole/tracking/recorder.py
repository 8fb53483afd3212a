"""The one MLflow run of a job: opened once, continued by later attempts, closed with the job's end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from mlflow.exceptions import MlflowException

from farandole.errors import EnvironmentLacking
from farandole.shards import Manifest
from farandole.spec import Job
from farandole.tracking.store import Store, store_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GIT_DIFF_BYTES = 1_000_000
_IN_NAMES = re.compile(r"[\w -]{1,60}", re.ASCII)
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_RETRIES_AT_START = "3"
"""Some 15 seconds. MLflow's own number takes minutes, which suits a server that goes away while a job trains, and
not one that was never there."""


class Recorder:
    """Writes to one MLflow run.

    Args:
        run_id: The MLflow run's id.
        experiment_id: Its experiment's id.
    """

    def __init__(self, run_id: str, experiment_id: str) -> None:
        self.run_id = run_id
        self.experiment_id = experiment_id
        self._client = mlflow.MlflowClient()
        self._pending: list[Any] = []
        self.stays_open = False
        """Set when the training stops and may go on later: the MLflow run is then left as it is, running."""
        self.history: dict[str, list[tuple[int, float]]] = {}
        """Every metric logged by this attempt: name to (step, value)."""

    def metrics(self, values: dict[str, float], step: int) -> None:
        """Log metrics at a step, all in one request that nobody waits for."""
        now_ms = int(time.time() * 1000)
        for name, value in values.items():
            self.history.setdefault(name, []).append((step, value))
        metrics = [Metric(name, value, now_ms, step) for name, value in values.items()]
        self._pending.append(self._client.log_batch(self.run_id, metrics=metrics, synchronous=False))

    def settle(self) -> list[str]:
        """Wait until all metrics are written; returns why some are not."""
        problems = []
        for operations in self._pending:
            try:
                operations.wait()
            except MlflowException as error:
                problems.append(" ".join(str(error).split())[:300])
        self._pending = []
        return problems

    def params(self, job: Job) -> None:
        """Log the flattened spec. Params never change: what differs in a later attempt (a job that is resumed with
        more epochs) becomes a tag."""
        flat = _flatten(job.model_dump(mode="json", exclude={"folder"}))
        params = {name: str(value)[:6000] for name, value in flat.items()}
        known = self._client.get_run(self.run_id).data.params
        mlflow.log_params({name: value for name, value in params.items() if name not in known})
        changed = {name: value for name, value in params.items() if known.get(name, value) != value}
        self.tags({f"farandole.changed.{name}": value for name, value in changed.items()})

    def dataset(self, manifest: Manifest, directory: str) -> None:
        """Log the dataset as an input, under its content digest (MLflow keeps 36 characters of it)."""
        dataset = Dataset(
            name=Path(directory).name,
            digest=manifest.digest[:36],
            source_type=urlsplit(directory).scheme or "local",
            source=json.dumps({"uri": directory}),
            profile=json.dumps({"rows": manifest.row_counts}),
        )
        context = InputTag("mlflow.data.context", "training")
        self._client.log_inputs(self.run_id, [DatasetInput(dataset, [context])])
        mlflow.log_dict(manifest.model_dump(mode="json", exclude={"splits"}), "dataset/manifest.json")
        self.tags({"farandole.dataset_digest": manifest.digest})

    def surroundings(self, folder: str | None) -> None:
        """Log the installed packages, and the git commit and changes of the user's folder."""
        packages = sorted({f"{entry.metadata['Name']}=={entry.version}" for entry in distributions()})
        mlflow.log_text("\n".join(packages) + "\n", "environment/requirements.txt")
        commit = _git(folder, "rev-parse", "HEAD")
        if commit:
            self.tags({"mlflow.source.git.commit": commit.strip()})
            changes = _git(folder, "diff", "HEAD")
            if changes:
                mlflow.log_text(changes[:_GIT_DIFF_BYTES], "environment/git.diff")

    def tags(self, tags: dict[str, str]) -> None:
        """Set tags; unlike params they may change from attempt to attempt."""
        mlflow.set_tags(tags)

    def figure(self, figure: Figure, name: str) -> None:
        """Log a plot under `plots/`."""
        mlflow.log_figure(figure, f"plots/{name}.png")

    def files(self, directory: Path, place: str) -> None:
        """Log all files of a directory."""
        mlflow.log_artifacts(str(directory), place)

    def document(self, value: dict[str, Any], path: str) -> None:
        """Log plain data as a JSON file."""
        mlflow.log_text(json.dumps(value, indent=1), path)

    def register(self, model_uri: str, name: str) -> str:
        """Add a model version; returns its URI."""
        version = mlflow.register_model(model_uri, name)
        return f"models:/{version.name}/{version.version}"


@contextmanager
def recording(job: Job, run_id: str | None, run_name: str) -> Iterator[Recorder]:
    """Open the MLflow run of a job.

    Args:
        job: The job.
        run_id: The MLflow run to go on with; None: a new one.
        run_name: The name of a new one.

    Raises:
        EnvironmentLacking: The tracking store does not answer.
    """
    store = store_of(job.tracking)
    # MLflow prints links and progress bars; the job's own words are enough.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ.setdefault("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "2")
    try:
        uri = _sign_in(store)
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        with _few_retries():
            experiment_id = _experiment(store, job.tracking.experiment)
            active = mlflow.start_run(
                run_id=run_id,
                experiment_id=experiment_id,
                run_name=run_name,
                log_system_metrics=job.tracking.system_metrics,
            )
    except (MlflowException, OSError) as error:
        raise EnvironmentLacking(
            f"tracking.uri: {store.shown}: the MLflow store does not answer"
            f" ({' '.join(str(error).replace(store.uri, store.shown).split())[:300]}); start it, or mend tracking.uri"
        ) from error
    ended = "FAILED"
    recorder = Recorder(active.info.run_id, experiment_id)
    try:
        yield recorder
        ended = "FINISHED"
    finally:
        mlflow.flush_async_logging()
        if not recorder.stays_open:
            mlflow.end_run(ended)


def close_run(job: Job, run_id: str, status: Literal["FAILED", "KILLED"]) -> None:
    """Say that an MLflow run has ended whose own process could not say it any more.

    Raises:
        EnvironmentLacking: The tracking store does not answer.
    """
    store = store_of(job.tracking)
    try:
        client = mlflow.MlflowClient(_sign_in(store))
        with _few_retries():
            if client.get_run(run_id).info.status == "RUNNING":
                client.set_terminated(run_id, status)
    except (MlflowException, OSError) as error:
        raise EnvironmentLacking(
            f"tracking.uri: {store.shown}: the MLflow run {run_id} cannot be closed"
            f" ({' '.join(str(error).replace(store.uri, store.shown).split())[:300]})"
        ) from error


def _sign_in(store: Store) -> str:
    """The URI for MLflow. A server's user and password go by variables: MLflow's errors show the URI as it is."""
    parts = urlsplit(store.uri)
    if not store.is_server or parts.username is None:
        return store.uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return store.shown


@contextmanager
def _few_retries() -> Iterator[None]:
    """Give up soon on a server that does not answer, unless the user has said how often to try."""
    if _RETRIES in os.environ:
        yield
        return
    os.environ[_RETRIES] = _RETRIES_AT_START
    try:
        yield
    finally:
        del os.environ[_RETRIES]


def _experiment(store: Store, name: str) -> str:
    found = mlflow.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(mlflow.create_experiment(name, artifact_location=store.artifacts and _uri(store.artifacts)))
    except MlflowException:
        again = mlflow.get_experiment_by_name(name)  # another job may have been faster
        if again is None:
            raise
        return str(again.experiment_id)


def _uri(place: str) -> str:
    return place if "://" in place else Path(place).as_uri()


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted names; one whose keys MLflow refuses in a name stays together."""
    if not isinstance(value, dict) or not value or not all(_IN_NAMES.fullmatch(str(key)) for key in value):
        return {prefix: json.dumps(value) if isinstance(value, dict) else value}
    flat: dict[str, Any] = {}
    for key, child in value.items():
        flat |= _flatten(child, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _git(folder: str | None, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", folder or ".", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None  # no git, no commit: the run is tracked without one
    return done.stdout if done.returncode == 0 else None
