"""The result of one trial."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Direction = Literal["minimize", "maximize"]
State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """One training of a sweep that has ended.

    Args:
        number: From 0.
        state: `complete`; `pruned`, ended because others did better; or `failed`.
        value: The metric of the weights that it kept, or after its last epoch if it did not succeed; None: it has none.
        values: Field of the job file to value.
        job_id: The id of its job.
        mlflow_run_id: Its MLflow run; None while the store has not created it.
        seconds: Seconds from its submission to its end.
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
        """Return the trial as an entry of a result document."""
        return asdict(self)

    @property
    def shown_values(self) -> str:
        """The values in one line: `learning_rate 0.01, hidden [64]`."""
        return ", ".join(f"{field.rpartition('.')[2]} {_short(value)}" for field, value in self.values.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
