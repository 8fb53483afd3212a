"""A training by a real Horovod gang of one in this process, and its MLflow run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from farandole.process.messages import encode_message
from farandole.spec import Job
from farandole.training import rank
from farandole.training.stop import StopSwitch


@dataclass(frozen=True)
class RecordedRun:
    """A finished training and its MLflow run.

    Args:
        job: The job.
        home: `$FARANDOLE_HOME`.
        messages: The messages of the rank to its launcher, as plain data.
    """

    job: Job
    home: Path
    messages: list[dict[str, Any]]

    @property
    def result(self) -> dict[str, Any]:
        """The message with the result."""
        return next(message for message in self.messages if message["event"] == "result")

    @property
    def client(self) -> MlflowClient:
        """A client of the store."""
        return MlflowClient(f"sqlite:///{self.home / 'mlflow.db'}")

    @property
    def run(self) -> Any:
        """The MLflow run."""
        return self.client.get_run(self.result["training"]["mlflow_run_id"])

    def artifacts(self, path: str = "") -> set[str]:
        """Return the paths of the run's artifacts in a folder."""
        return {entry.path for entry in self.client.list_artifacts(self.run.info.run_id, path)}


def train_in_process(
    job: Job, home: Path, patch: pytest.MonkeyPatch, *, register: bool = True, directory: Path | None = None
) -> RecordedRun:
    """Train as the only rank of a gang, and keep its messages; by default in a new directory of a job."""
    messages: list[dict[str, Any]] = []

    def keep(message: Any) -> None:
        messages.append(message if isinstance(message, dict) else encode_message(message))

    patch.setattr(rank, "send_message", keep)
    patch.delenv("FARANDOLE_WORKERS", raising=False)
    patch.delitem(sys.modules, "network", raising=False)
    directory = directory or home / "jobs" / f"{job.name}-{len(list(home.glob('jobs/*')))}"
    directory.mkdir(parents=True, exist_ok=True)
    rank.run_rank(job, directory, register, StopSwitch())
    return RecordedRun(job, home, messages)
