"""The result of a training, as data: what `farandole train --json` prints."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TrainingSummary:
    """The numbers of a training that reached its end.

    Args:
        mlflow_run_id: The job's MLflow run; None while the store has not created it.
        workers: Workers of the last attempt.
        steps: Optimizer steps, over all attempts.
        rows_per_s: Rows per second of training time in the last attempt.
        weights_digest: SHA-256 over names, shapes and bytes of the weights.
        metrics: Split (`test`, `validation`) to metric to value.
        time_split: Where rank zero's time went: part to seconds.
        time_by_rank: The same for each worker.
        straggler: The worker that the others wait for (`rank`, `excess_s`, `share`); None: there is none.
        attempts: Attempts until the end was reached.
        recoveries: Each recovery from a failure: `attempt`, `kind`, `from_step`, `seconds`.
        epochs: Epochs after which the model was validated.
        best_epoch: The epoch with the best validation, from 1; None without validations.
        weights_step: The step whose weights are the model's: fewer than `steps` where an earlier epoch was the best and
            its weights are kept; None if the job runs a script.
        refit_steps: How many of the steps came after that and learned the validation rows as well (`train.refit`):
            validation metrics are of the weights before them, test metrics of those after them.
        evaluation: What helps to judge the metrics: `baselines` (name to the metrics of a baseline on the test split),
            `intervals` (split to metric to the ends of its 95% interval), `classes` (class to precision, recall, F1 and
            rows, on the test split), `test_rows_digest` and `notes`.
    """

    mlflow_run_id: str | None
    workers: int
    steps: int
    rows_per_s: float
    weights_digest: str
    metrics: dict[str, dict[str, float]]
    time_split: dict[str, float]
    time_by_rank: list[dict[str, float]]
    straggler: dict[str, Any] | None
    attempts: int
    recoveries: list[dict[str, Any]]
    epochs: int = 0
    best_epoch: int | None = None
    weights_step: int | None = None
    refit_steps: int = 0
    evaluation: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the `training` part of a result document."""
        return asdict(self)


@dataclass(frozen=True)
class DatasetSummary:
    """The dataset of a training.

    Args:
        path: The dataset directory: a path, or a URI.
        digest: Its content digest.
        rows: Rows of each split.
        reused: Whether it existed before the job.
        left_out: Malformed rows of each source that are not in it.
    """

    path: str
    digest: str
    rows: dict[str, int]
    reused: bool
    left_out: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the `dataset` part of a result document."""
        return asdict(self)


@dataclass(frozen=True)
class TrainedModel:
    """A training that reached its end, and its model.

    Args:
        job: The job's name.
        id: The job's id.
        directory: Where the job keeps its spec, checkpoints and logs.
        dataset: The dataset; None: the job's script reads its own data.
        training: The numbers of the training.
        model_uri: The logged or registered model; empty if the job runs a script, which logs models itself.
        not_registered: Why the model was logged but not registered; None if it was, or was not meant to be.
    """

    job: str
    id: str
    directory: Path
    dataset: DatasetSummary | None
    training: TrainingSummary
    model_uri: str
    not_registered: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result document."""
        return {
            "job": self.job,
            "id": self.id,
            "directory": str(self.directory),
            "dataset": self.dataset.to_dict() if self.dataset is not None else None,
            "training": self.training.to_dict(),
            "model": {"uri": self.model_uri, "not_registered": self.not_registered},
        }
