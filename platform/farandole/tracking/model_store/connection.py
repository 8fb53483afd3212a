"""The connection to MLflow's model registry, whose errors become those of Farandole."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from farandole.errors import (
    FarandoleError,
    RegistryError,
    UnavailableError,
    closest_match,
    explain_os_error,
    is_disk_full,
)
from farandole.spec import Tracking
from farandole.storage import join_location, sqlite_path
from farandole.tracking.client import AuthError, DeliveryError, PermanentError, classify_error, open_client
from farandole.tracking.client import prepare_client as prepare_client
from farandole.tracking.model_store.reference import LATEST, ModelReference
from farandole.tracking.store import TrackingStore, resolve_store

_NOT_FOUND = "RESOURCE_DOES_NOT_EXIST"
_MAX_SHOWN_NAMES = 8


class StoreAwayError(UnavailableError):
    """The MLflow store does not answer; what is cached on this machine may do instead."""


@dataclass(frozen=True)
class LoggedModel:
    """A model in the store.

    Args:
        location: Its folder of artifacts, a path or a URI.
        run_id: The run that logged it; None if unknown.
        name: The registered model that it is a version of; None if it is not registered.
        version: The number of this version.
    """

    location: str
    run_id: str | None
    name: str | None = None
    version: str | None = None


class Registry:
    """The models of an MLflow store.

    Args:
        store: The store. Default: `$MLFLOW_TRACKING_URI`, or the SQLite file in `$FARANDOLE_HOME`.
    """

    def __init__(self, store: TrackingStore | None = None) -> None:
        self.store = store if store is not None else resolve_store(Tracking())
        logging.getLogger("mlflow").setLevel(logging.ERROR)

    @cached_property
    def client(self) -> Any:
        """MLflow's client.

        Raises:
            StoreAwayError: There is no store, or it does not answer.
        """
        path = sqlite_path(self.store.uri)
        if path is not None and not path.exists():  # MLflow would create an empty one
            raise StoreAwayError(
                f"{self.store.shown}: there is no MLflow store; `farandole run JOB.yaml` creates it with the first"
                " model, or set MLFLOW_TRACKING_URI to the store that has the model"
            )
        with self.errors():
            return open_client(self.store)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Convert errors of MLflow that occur in the block.

        Raises:
            RegistryError: MLflow rejects the request.
            UnavailableError: MLflow rejects the credentials, or cannot be used.
            StoreAwayError: MLflow does not answer.
        """
        try:
            yield
        except FarandoleError:
            raise
        except Exception as error:  # databases and artifact stores raise errors of other libraries
            raise self._convert(error) from error

    def _convert(self, error: Exception) -> FarandoleError:
        if isinstance(error, OSError) and is_disk_full(error):
            return UnavailableError(explain_os_error(error, error.filename or "the disk"))
        found = error if isinstance(error, DeliveryError) else classify_error(error, self.store)
        text = f"{self.store.shown}: {found}"
        if isinstance(found, AuthError):
            return UnavailableError(str(found))
        if isinstance(found, PermanentError) or is_missing(error):
            return RegistryError(text)
        return StoreAwayError(f"{text}; check that MLflow runs, and MLFLOW_TRACKING_URI")

    def find(self, reference: ModelReference) -> LoggedModel:
        """Return the model that a reference names at present.

        Raises:
            RegistryError: There is no such model.
            StoreAwayError: MLflow does not answer.
        """
        if reference.run_id is not None:
            return self._find_in_run(reference.run_id, reference.logged_name or "model")
        if reference.logged_model is not None:
            return self._find_logged(reference.logged_model)
        version = self.version(reference)
        return LoggedModel(self._location(version), version.run_id or None, version.name, str(version.version))

    def registered(self, name: str) -> Any:
        """Return MLflow's entry of a registered model.

        Raises:
            RegistryError: There is none of this name.
        """
        with self.errors():
            try:
                return self.client.get_registered_model(name)
            except MlflowException as error:
                if not is_missing(error):
                    raise
                known = [entry.name for entry in self.client.search_registered_models()]
        close = closest_match(name, known)
        shown = ", ".join(known[:_MAX_SHOWN_NAMES]) + (", …" if len(known) > _MAX_SHOWN_NAMES else "")
        hint = f"did you mean {close}?" if close else f"there are {shown}" if known else "there is none at all"
        raise RegistryError(f"{name}: there is no registered model of this name in {self.store.shown}; {hint}")

    def version(self, reference: ModelReference) -> Any:
        """Return MLflow's entry of the version that a version's number or an alias names.

        Raises:
            RegistryError: There is no such model, version or alias.
        """
        name = reference.name or ""
        model = self.registered(name)
        number = reference.version
        if reference.alias is not None:
            aliases = model.aliases
            if reference.alias not in aliases:
                shown = ", ".join(f"@{alias} (version {aliases[alias]})" for alias in sorted(aliases))
                raise RegistryError(
                    f"{reference.text}: {name} has no alias {reference.alias}; it has {shown or 'no alias'}; set"
                    f" it with `farandole models promote {name} VERSION --alias {reference.alias}`"
                )
            number = aliases[reference.alias]
        if number is None or number == LATEST:
            return self.versions(name)[0]
        with self.errors():
            try:
                return self.client.get_model_version(name, str(number))
            except MlflowException as error:
                if not is_missing(error):
                    raise
        numbers = [str(entry.version) for entry in self.versions(name)]
        raise RegistryError(f"{name}/{number}: there is no such version; {name} has {', '.join(numbers)}")

    def versions(self, name: str) -> list[Any]:
        """Return MLflow's entries of all versions of a registered model, newest first.

        Raises:
            RegistryError: There is none.
        """
        found: list[Any] = []
        quoted = name.replace("'", "''")
        with self.errors():
            token: str | None = None
            while True:
                page = self.client.search_model_versions(f"name = '{quoted}'", page_token=token)
                found += page
                token = page.token
                if not token:
                    break
        if not found:
            raise RegistryError(f"{name}: has no version; train one with `farandole train JOB.yaml --register`")
        return sorted(found, key=lambda entry: int(entry.version), reverse=True)

    def artifacts(self, location: str) -> Any:
        """Return MLflow's repository of the files below a location."""
        uri = prepare_client(self.store)
        return get_artifact_repository(location, tracking_uri=uri, registry_uri=uri)

    def _find_logged(self, model_id: str, run_id: str | None = None) -> LoggedModel:
        with self.errors():
            model = self.client.get_logged_model(model_id)
        return LoggedModel(model.artifact_location, run_id or model.source_run_id)

    def _find_in_run(self, run_id: str, name: str) -> LoggedModel:
        """Return the model of this name that a run has logged; `model` is the one of its last step."""
        run = self.run(run_id)
        outputs = sorted(run.outputs.model_outputs if run.outputs else (), key=lambda output: output.step)
        with self.errors():
            models = [self.client.get_logged_model(output.model_id) for output in outputs]
        chosen = [model for model in models if name in ("model", model.name)]
        if chosen:
            return LoggedModel(chosen[-1].artifact_location, run_id)
        names = ", ".join(model.name for model in models)
        raise RegistryError(
            f"runs:/{run_id}/{name}: the run has not logged such a model; "
            + (f"it has {names}" if names else "it has none, since its training did not reach the end")
        )

    def run(self, run_id: str) -> Any:
        """Return MLflow's entry of a run.

        Raises:
            RegistryError: There is none of this id.
        """
        with self.errors():
            try:
                return self.client.get_run(run_id)
            except MlflowException as error:
                if not is_missing(error):
                    raise
        raise RegistryError(f"runs:/{run_id}: there is no such run in {self.store.shown}; correct the id")

    def _location(self, version: Any) -> str:
        """Return the folder of a version's artifacts."""
        source = str(version.source)
        model_id = version.model_id or (source.removeprefix("models:/") if source.startswith("models:/m-") else None)
        if model_id:
            return self._find_logged(model_id).location
        if source.startswith("runs:/"):  # registered by other means than Farandole
            run_id, _, path = source.removeprefix("runs:/").partition("/")
            return join_location(self.run(run_id).info.artifact_uri, *path.split("/"))
        return source


def is_missing(error: Exception) -> bool:
    """Return whether MLflow answers that something does not exist."""
    return isinstance(error, MlflowException) and error.error_code == _NOT_FOUND
