"""Which MLflow store the jobs use."""

from __future__ import annotations

import os
from dataclasses import dataclass

from farandole.spec import Tracking
from farandole.storage import home


@dataclass(frozen=True)
class TrackingStore:
    """A tracking URI, and where a new experiment keeps its artifacts if no server decides.

    Args:
        uri: MLflow's tracking URI.
        artifacts: A directory or URI; None where the server decides.
    """

    uri: str
    artifacts: str | None

    @property
    def shown(self) -> str:
        """The URI without a user's name, password and options, for messages."""
        scheme, mark, rest = self.uri.partition("://")
        return scheme + mark + rest.partition("?")[0].rpartition("@")[2]

    @property
    def is_server(self) -> bool:
        """Whether an MLflow server answers at the URI."""
        return self.uri.startswith(("http://", "https://"))


def resolve_store(tracking: Tracking) -> TrackingStore:
    """The store that a job file names: its `uri`, or `$MLFLOW_TRACKING_URI`, or a SQLite file in `$FARANDOLE_HOME`."""
    uri = tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"
    server = uri.startswith(("http://", "https://"))
    return TrackingStore(uri, tracking.artifacts or (None if server else str(home() / "artifacts")))
