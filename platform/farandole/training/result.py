"""Result of a training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from farandole.training.timing import TimeSplit, find_straggler


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training, the same on all ranks but for `rows_per_s` and `time_split`.

    Args:
        workers: Number of ranks.
        steps: Optimizer steps since the very start of the training, including those before an interruption.
        rows_per_s: Training rows per second of all ranks, since the last interruption.
        weights_digest: SHA-256 over names, shapes and bytes of the final weights.
        validation: Metrics of the validation split, by name, of the final weights.
        epochs: Metrics of the validation split after each epoch.
        best_epoch: Number of the epoch with the best validation, from 1; None without validations.
        weights_step: The step after which the network had the final weights, but for the steps of `train.refit`.
        refit_steps: How many of the steps learned the validation rows as well, after their metrics.
        time_split: Time of this rank by activity.
        time_by_rank: Time of every rank by activity.
        test: Metrics of the test split, by name.
        evaluation: The report on the model, as plain data.
        mlflow_run_id: Id of the MLflow run that recorded the training.
    """

    workers: int
    steps: int
    rows_per_s: float
    weights_digest: str
    validation: dict[str, float]
    epochs: list[dict[str, float]]
    best_epoch: int | None
    weights_step: int
    time_split: TimeSplit
    time_by_rank: tuple[TimeSplit, ...]
    refit_steps: int = 0
    test: dict[str, float] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    mlflow_run_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the `training` part of the result document."""
        time_by_rank = list(self.time_by_rank)
        return {
            "mlflow_run_id": self.mlflow_run_id,
            "workers": self.workers,
            "steps": self.steps,
            "rows_per_s": round(self.rows_per_s, 1),
            "weights_digest": self.weights_digest,
            "metrics": {"test": self.test, "validation": self.validation},
            "epochs": len(self.epochs),
            "best_epoch": self.best_epoch,
            "weights_step": self.weights_step,
            "refit_steps": self.refit_steps,
            "evaluation": self.evaluation,
            "time_split": self.time_split.rounded(),
            "time_by_rank": [split.rounded() for split in time_by_rank],
            "straggler": find_straggler(time_by_rank),
        }
