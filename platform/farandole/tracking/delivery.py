"""Delivery of spooled operations to an MLflow store. Operations are idempotent, so each may be retried."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME

from farandole.tracking.client import (
    DeletedExperimentError,
    DeliveryError,
    PermanentError,
    TransientError,
    classify_error,
    open_client,
    prepare_client,
)
from farandole.tracking.run_link import RunLink, read_run_id, write_run_id
from farandole.tracking.spool import Operation
from farandole.tracking.store import VIEW_TAG, TrackingStore

_KEY_TAG = "farandole.record"
_MAX_POINTS_PER_REQUEST = 1000
_MAX_PARAMS_PER_REQUEST = 100
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Tags of new experiments: the UI opens at the runs, not at traces of language models."""
_WITH_FILES = ("file", "model")


class Delivery:
    """A writer of operations to the MLflow run of one directory.

    Args:
        store: The store.
        directory: The directory of the job.
        link: The link to its run.
        on_run: Called with the run's id once it is known.
    """

    def __init__(
        self,
        store: TrackingStore,
        directory: Path,
        link: RunLink,
        on_run: Callable[[str], None] = lambda run_id: None,
    ) -> None:
        prepare_client(store)
        self._store = store
        self._directory = directory
        self._link = link
        self._on_run = on_run
        self._run_reported = False
        self.model_uri: str | None = None
        """URI of the most recently delivered model."""

    def deliver(self, operations: list[Operation], files: Path) -> int:
        """Apply the first operation; consecutive operations with metrics are applied together.

        Args:
            operations: The pending operations in order, at least one.
            files: The folder of the files that operations send.

        Returns:
            The number of operations that were applied.

        Raises:
            PermanentError: The store will never accept the operation.
            UnusableStoreError: The store rejects all operations.
            TransientError: The store does not answer.
        """
        kind = operations[0]["op"]
        try:
            if kind == "metrics":
                return self._metrics(operations)
            getattr(self, f"_{kind}")(operations[0], files)
        except DeliveryError:
            raise
        except Exception as error:  # databases and artifact stores raise errors of other libraries
            raise classify_error(error, self._store) from error
        return 1

    def deliver_points(self, operation: Operation) -> list[str]:
        """Deliver the metrics of a step one by one; return the reasons for those that are rejected."""
        reasons = []
        for point in operation["points"]:
            try:
                self.deliver([{"op": "metrics", "points": [point]}], self._directory)
            except PermanentError as error:
                reasons.append(str(error))
        return reasons

    def can_be_postponed(self, operation: Operation) -> bool:
        """Return True if an operation that failed should not block the next ones.

        That is the case for files, if the tracking store itself answers.
        """
        run_id = read_run_id(self._directory)
        if operation["op"] not in _WITH_FILES or run_id is None:
            return False
        try:
            self._client.get_run(run_id)
        except (MlflowException, OSError):
            return False
        return True

    @cached_property
    def _client(self) -> mlflow.MlflowClient:
        """The client, created on first use: with a database, MLflow connects at once and retries for minutes."""
        return open_client(self._store)

    @property
    def _run_id(self) -> str:
        run_id = read_run_id(self._directory)
        if run_id is None:
            raise TransientError(f"the MLflow run of {self._directory} has not been created yet")
        return run_id

    # One method for each kind of operation -------------------------------------------------------------------

    def _open(self, operation: Operation, files: Path) -> None:
        """Create the run, or mark an existing one as running."""
        run_id = read_run_id(self._directory)
        if run_id is None:
            run_id = self._find_or_create_run(operation)
            write_run_id(self._directory, run_id)
        else:
            self._client.update_run(run_id, status="RUNNING")
        if not self._run_reported:
            self._run_reported = True
            self._on_run(run_id)

    def _find_or_create_run(self, operation: Operation) -> str:
        experiment_id = self._find_or_create_experiment(
            operation["experiment"], operation["artifacts"], operation.get("view")
        )
        found = self._client.search_runs([experiment_id], f"tags.`{_KEY_TAG}` = '{self._link.key}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {**operation["tags"], _KEY_TAG: self._link.key}
        if self._link.parent is not None:
            parent_id = read_run_id(Path(self._link.parent))
            if parent_id is None:
                raise TransientError(f"the MLflow run of {self._link.parent} has not been created yet")
            tags["mlflow.parentRunId"] = parent_id
        run = self._client.create_run(experiment_id, self._link.started_ms, tags, operation["name"])
        return str(run.info.run_id)

    def _find_or_create_experiment(self, name: str, artifacts: str | None, view: str | None) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            raise DeletedExperimentError(
                f"the experiment {name} is deleted in MLflow at {self._store.shown}; restore it with"
                f" `MLFLOW_TRACKING_URI={self._store.shown} mlflow experiments restore --experiment-id"
                f" {found.experiment_id}`, or choose another tracking.experiment"
            )
        if found is not None:
            return str(found.experiment_id)
        try:
            tags = _EXPERIMENT_TAGS if view is None else {**_EXPERIMENT_TAGS, VIEW_TAG: view}
            return str(self._client.create_experiment(name, artifacts, tags))
        except MlflowException:
            found = self._client.get_experiment_by_name(name)  # another job may have created it in the meantime
            if found is None:
                raise
            return str(found.experiment_id)

    def _metrics(self, operations: list[Operation]) -> int:
        """Log the points of all operations up to the first of another kind.

        MLflow ignores a point that it already has, with the same name, step, time and value.
        """
        points: list[Metric] = []
        count = 0
        for operation in operations:
            if operation["op"] != "metrics" or (
                points and len(points) + len(operation["points"]) > _MAX_POINTS_PER_REQUEST
            ):
                break
            points += [Metric(name, value, time_ms, step) for name, value, time_ms, step in operation["points"]]
            count += 1
        for start in range(0, len(points), _MAX_POINTS_PER_REQUEST):
            self._client.log_batch(self._run_id, metrics=points[start : start + _MAX_POINTS_PER_REQUEST])
        return count

    def _params(self, operation: Operation, files: Path) -> None:
        """Log params. They are immutable: a value that differs in a later attempt (more epochs, say) becomes a tag."""
        params: dict[str, str] = operation["params"]
        known = self._client.get_run(self._run_id).data.params
        new = [Param(name, value) for name, value in params.items() if name not in known]
        for start in range(0, len(new), _MAX_PARAMS_PER_REQUEST):
            self._client.log_batch(self._run_id, params=new[start : start + _MAX_PARAMS_PER_REQUEST])
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
        """Log a saved model, and register a version of it."""
        run = self._client.get_run(self._run_id)
        folder, key = files / operation["place"], operation["key"]
        filter_ = f"tags.`{_KEY_TAG}` = '{key}'"
        card = operation.get("card") or {"name": "model", "step": 0}
        found = self._client.search_logged_models([run.info.experiment_id], filter_, max_results=1)
        model = found[0] if found else self._client.create_logged_model(
            run.info.experiment_id, name=card["name"], source_run_id=run.info.run_id, tags={_KEY_TAG: key}
        )  # fmt: skip
        if str(model.status) != "READY":
            saved = Model.from_dict(yaml.safe_load((folder / MLMODEL_FILE_NAME).read_text()))  # `load` takes a URI
            saved.model_id, saved.model_uuid = model.model_id, model.model_id
            saved.run_id, saved.artifact_path = run.info.run_id, model.artifact_location
            saved.save(str(folder / MLMODEL_FILE_NAME))
            self._client.log_model_artifacts(model.model_id, str(folder))
            model = self._client.finalize_logged_model(model.model_id, "READY")
        if model.model_id not in [output.model_id for output in (run.outputs.model_outputs if run.outputs else ())]:
            self._client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=card["step"])])
        if "metrics" in card:
            self._link_metrics(model.model_id, card, operation["time_ms"])
        self.model_uri = f"models:/{model.model_id}"
        if operation["register_as"] is not None:
            self.model_uri = self._register(operation["register_as"], model, run.info.run_id, card)

    def _link_metrics(self, model_id: str, card: dict[str, Any], time_ms: int) -> None:
        """Log the metrics of a model, measured on its dataset."""
        points = [
            Metric(name, value, time_ms, card["step"], model_id=model_id, dataset_name=card["dataset"]["name"],
                   dataset_digest=card["dataset"]["digest"], run_id=self._run_id)
            for name, value in card["metrics"].items()
        ]  # fmt: skip
        self._client.log_batch(self._run_id, metrics=points)

    def _register(self, name: str, model: Any, run_id: str, card: dict[str, Any]) -> str:
        for version in self._client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
            if version.source in (model.artifact_location, f"models:/{model.model_id}"):
                return f"models:/{name}/{version.version}"
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = self._client.create_model_version(
            name, model.artifact_location, run_id, card.get("tags"), description=card.get("description"),
            model_id=model.model_id,
        )  # fmt: skip
        versions = [
            *json.loads(model.tags.get("mlflow.modelVersions", "[]")),
            {"name": name, "version": version.version},
        ]
        self._client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": json.dumps(versions)})
        return f"models:/{name}/{version.version}"

    def _close(self, operation: Operation, files: Path) -> None:
        """Set the status of the run, unless it has ended already."""
        if self._client.get_run(self._run_id).info.status == "RUNNING":
            self._client.set_terminated(self._run_id, operation["status"], operation["time_ms"])
