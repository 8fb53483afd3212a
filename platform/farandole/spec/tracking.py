"""The `tracking` part of a job file: the MLflow server or store, the experiment, the registered model."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, Field, field_validator

from farandole.spec.base import PathText, SecretError, Spec, expand_variables


def _check_uri(uri: str) -> str:
    expanded = expand_variables(uri)
    parts = urlsplit(expanded)
    if parts.password or any("password" in name.lower() for name in parse_qs(parts.query)):
        raise SecretError(
            "a password does not belong in a job file; give it by PGPASSWORD or ~/.pgpass (PostgreSQL), or by"
            " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (server)"
        )
    if parts.scheme in ("http", "https") and not parts.hostname:
        raise ValueError("the address names no host; write http://HOST:PORT")
    return expanded


TrackingUri = Annotated[str, AfterValidator(_check_uri)]
"""MLflow's address; a password in it is rejected."""


class Tracking(Spec):
    """The MLflow store, experiment and registered model of the job."""

    uri: TrackingUri | None = None
    """MLflow's tracking URI (`http://…`, `postgresql://…`, `sqlite:///…`).
    Default: `$MLFLOW_TRACKING_URI`, or else a SQLite file in `$FARANDOLE_HOME`."""
    artifacts: PathText | None = None
    """Where a new experiment stores its artifacts, unless the server decides. Default: `$FARANDOLE_HOME/artifacts`."""
    experiment: Annotated[str, Field(min_length=1)] = "{name}"
    """MLflow's experiment; `{name}` is the job's name."""
    register_as: Annotated[str, Field(min_length=1)] | None = "{name}"
    """The registered model that `farandole run` adds a version to; `{name}` is the job's name; null: none."""
    register_anyway: bool = False
    """Add a version even if the model is not better than the trivial baseline (`train.baseline`) on the test split."""
    system_metrics: bool = True
    """Record each node's use of CPU, memory, disk, network and GPU, under the node's name."""
    wait_s: Annotated[float, Field(ge=0)] = 30.0
    """How long a training waits at its end for an MLflow store that does not respond, in seconds. Data that the store
    has not accepted by then stays in the job's directory, and `farandole sync` sends it later."""

    @field_validator("register_as")
    @classmethod
    def _check_model_name(cls, value: str | None) -> str | None:
        if value is not None and any(character in value for character in "/:"):
            raise ValueError("a registered model's name has no `/` and no `:`")
        return value
