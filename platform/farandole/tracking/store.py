"""The MLflow store that jobs are recorded in."""

from __future__ import annotations

import os
from dataclasses import dataclass

from farandole.spec import Tracking
from farandole.storage import file_uri, home, is_uri, sqlite_path, sqlite_uri

VIEW = "farandole"
"""The name of the view of an experiment's runs, by which the UI finds it."""
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
"""The experiment's tag with the view."""


@dataclass(frozen=True)
class TrackingStore:
    """A tracking URI, and the location for artifacts of new experiments.

    Args:
        uri: MLflow's tracking URI.
        artifacts: A directory or URI; None if the server decides.
    """

    uri: str
    artifacts: str | None

    @property
    def shown(self) -> str:
        """The URI without user name, password and options, for messages."""
        if sqlite_path(self.uri) is not None:
            return self.uri.partition("?")[0]
        scheme, separator, rest = self.uri.partition("://")
        return scheme + separator + rest.partition("?")[0].rpartition("@")[2]

    @property
    def artifacts_uri(self) -> str | None:
        """The location for artifacts of new experiments as a URI; None if the server decides."""
        return self.artifacts if self.artifacts is None or is_uri(self.artifacts) else file_uri(self.artifacts)

    @property
    def is_server(self) -> bool:
        """True if the URI is that of an MLflow server."""
        return _is_http(self.uri)


def resolve_store(tracking: Tracking) -> TrackingStore:
    """Return the store of a job: its `uri`, or `$MLFLOW_TRACKING_URI`, or a SQLite file in `$FARANDOLE_HOME`."""
    uri = tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(home() / "mlflow.db")
    return TrackingStore(uri, tracking.artifacts or (None if _is_http(uri) else str(home() / "artifacts")))


def _is_http(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))
