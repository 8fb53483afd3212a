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
    """A stage of the job began (`prepare`, `train`, `evaluate`, `explain`, `register`)."""

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
        left_s: Seconds until the end of the stage, where the sender can estimate them better than `TimeLeft`.
    """

    stage: str
    done: int
    total: int
    unit: str
    text: str = ""
    rows_per_s: float | None = None
    left_s: float | None = None

    def __str__(self) -> str:
        done = f", {self.done:,} of {self.total:,} {self.unit}" if self.total else ""
        rate = f", {format_rate(self.rows_per_s)}" if self.rows_per_s else ""
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


class TimeLeft:
    """Estimate of the time until the end of a stage, from the pace of its progress so far."""

    def __init__(self) -> None:
        self._stage = ""
        self._first_done, self._first_s = 0, 0.0

    def update(self, event: Progress, now_s: float) -> float | None:
        """Return the seconds until the end of the stage; None while they are unknown.

        Args:
            event: The progress. Tasks are those of a part of a stage, so they say nothing about its end.
            now_s: When it was made, by the monotonic clock.
        """
        if event.left_s is not None or event.unit == "tasks" or not event.total:
            return event.left_s
        if event.stage != self._stage or event.done < self._first_done:
            self._stage, self._first_done, self._first_s = event.stage, event.done, now_s
        done, passed_s = event.done - self._first_done, now_s - self._first_s
        return None if done <= 0 or passed_s <= 0 else (event.total - event.done) * passed_s / done


def ignore_event(event: Event) -> None:
    """Discard an event."""


def format_metric(value: float) -> str:
    """Return a metric with four digits, or all digits of a large one: `0.8125`, `17.73`, `23,457`, `1.235e-05`."""
    return f"{value:,.0f}" if 999.95 <= abs(value) < 1e15 else f"{value:.4g}"


def format_count(count: int, noun: str) -> str:
    """Return a number and its noun, in the plural unless the number is one: `1 row`, `2,000 rows`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def format_rate(rows_per_s: float) -> str:
    """Return a rate with three digits: `181,000 rows/s`, `1,230 rows/s`, `9.52 rows/s`."""
    if rows_per_s < 100:
        return f"{rows_per_s:.3g} rows/s"
    digits = len(str(int(rows_per_s)))
    return f"{round(rows_per_s, 3 - digits):,.0f} rows/s"


def format_duration(seconds: float) -> str:
    """Return a duration for people: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `1 d 3 h`."""
    if seconds < 9.95:
        return f"{seconds} s" if isinstance(seconds, int) else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3_600} h"
