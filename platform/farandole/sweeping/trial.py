"""What is known of one trial."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Direction = Literal["minimize", "maximize"]
State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """One training of a sweep, at its end.

    Args:
        number: From 0.
        state: `complete`; `pruned`, ended because others did better; or `failed`.
        value: The metric after the last epoch; of a pruned trial, when it was ended; None if nothing was measured.
        values: Field of the job file to value.
        job_id: The id of its job.
        mlflow_run_id: Its MLflow run, if the store has made it.
        seconds: How long it took.
        reason: Why it failed.
    """

    number: int
    state: State
    value: float | None
    values: dict[str, Any]
    job_id: str
    mlflow_run_id: str | None
    seconds: float
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @property
    def shown_values(self) -> str:
        """The values for a line: `learning_rate 0.01, hidden [64]`."""
        return ", ".join(f"{field.rpartition('.')[2]} {_short(value)}" for field, value in self.values.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
