"""Events of a running job: small immutable values, passed to one function.

The stages do not know about terminals: the CLI draws the events, the Python API may ignore them, and a worker on
another machine sends them as lines of text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class StageStarted:
    """A stage of the job began (`prepare`, `train`, `evaluate`, `register`)."""

    stage: str
    text: str

    def __str__(self) -> str:
        return f"{self.stage}: {self.text}"


@dataclass(frozen=True)
class StageEnded:
    """A stage of the job succeeded; `text` sums it up in a line."""

    stage: str
    text: str

    def __str__(self) -> str:
        return f"{self.stage}: {self.text}"


@dataclass(frozen=True)
class Progress:
    """Work done inside a stage.

    Args:
        stage: The stage.
        done: Units done so far.
        total: Units in all; 0 while unknown.
        unit: What is counted (`tasks`, `rows`).
        text: The current activity.
        rows_per_s: Rows per second of wall-clock time, where known.
    """

    stage: str
    done: int
    total: int
    unit: str
    text: str = ""
    rows_per_s: float | None = None

    def __str__(self) -> str:
        done = f", {self.done:,} of {self.total:,} {self.unit}" if self.total else ""
        rate = f", {self.rows_per_s:,.0f} rows/s" if self.rows_per_s else ""
        return f"{self.stage}: {self.text}{done}{rate}"


@dataclass(frozen=True)
class Message:
    """A line for the reader: an intermediate result, or a warning."""

    text: str
    level: Literal["info", "warning"] = "info"

    def __str__(self) -> str:
        return f"{'warning: ' if self.level == 'warning' else ''}{self.text}"


@dataclass(frozen=True)
class EpochMetrics:
    """Metrics on the validation split after an epoch.

    Args:
        epoch: Epochs trained.
        epochs: Epochs in all.
        metrics: Name to value.
    """

    epoch: int
    epochs: int
    metrics: dict[str, float]

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {format_metric(value)}" for name, value in self.metrics.items())
        return f"epoch {self.epoch} of {self.epochs}: validation {shown}"


Event = StageStarted | StageEnded | Progress | Message | EpochMetrics
EventHandler = Callable[[Event], None]

EVENT_TYPES: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (StageStarted, StageEnded, Progress, Message, EpochMetrics)
}
"""Event classes by name, as messages between processes carry it."""


def ignore_event(event: Event) -> None:
    """Discard an event."""


def format_metric(value: float) -> str:
    """Return a metric with four digits, or all digits of a large one: `0.8125`, `17.73`, `23,457`, `1.235e-05`."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e15 else f"{value:.4g}"


def format_count(count: int, noun: str) -> str:
    """Return a number and its noun, in the plural unless the number is one: `1 row`, `2,000 rows`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
