"""Displays a job's events on stderr: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress import Progress as ProgressBar
from rich.table import Column
from rich.text import Text

from farandole.cli.console import has_symbols, make_console, mark, print_text
from farandole.events import (
    EpochMetrics,
    Event,
    EventHandler,
    Message,
    Progress,
    StageEnded,
    StageStarted,
    TimeLeft,
    format_duration,
    format_rate,
)

_PLAIN_EVERY_S = 10.0
_WIDE, _MEDIUM = 100, 70
"""Cells of a terminal from which on there is room for a long bar, and for a bar and a rate."""


@contextmanager
def event_display() -> Iterator[EventHandler]:
    """Yield an event handler that displays events for the length of the block."""
    console = make_console(stderr=True)
    if sys.stderr.isatty() and not console.is_dumb_terminal:
        with _bars(console) as on_event:
            yield on_event
    else:
        yield _Lines()


class _Lines:
    """A line for each stage and message, and one for progress every few seconds: for logs and pipes."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._printed_s = 0.0
        self._text = ""
        self._time_left = TimeLeft()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._advance(event)
        else:
            self._print(str(event))

    def _advance(self, event: Progress) -> None:
        now = time.monotonic()
        left_s = self._time_left.update(event, now)
        if event.unit == "tasks" and event.text == self._text and now - self._printed_s < _PLAIN_EVERY_S:
            return
        if event.unit == "rows" and now - self._printed_s < _PLAIN_EVERY_S:
            return
        self._printed_s, self._text = now, event.text
        self._print(str(event) + (f", {format_duration(left_s)} left" if left_s is not None else ""))

    def _print(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started_s:6.1f} s] {text}", file=sys.stderr, flush=True)


@contextmanager
def _bars(console: Console) -> Iterator[EventHandler]:
    columns: list[ProgressColumn] = [
        SpinnerColumn("dots" if has_symbols(console) else "line"),
        TextColumn("{task.fields[stage]:<9}", style="bold", table_column=Column(no_wrap=True, min_width=9)),
        TextColumn("{task.description}", markup=False, table_column=_fitting(console)),
    ]
    if console.width >= _MEDIUM:
        width = 16 if console.width >= _WIDE else 10
        columns.append(BarColumn(bar_width=width, table_column=Column(no_wrap=True, min_width=width)))
        columns.append(TextColumn("{task.fields[rate]}", style="cyan", table_column=Column(no_wrap=True, min_width=14)))
    columns.append(_TimeColumn(table_column=Column(no_wrap=True, min_width=15, justify="right")))
    with ProgressBar(*columns, console=console, transient=True) as progress:
        yield _Bars(progress)


def _fitting(console: Console) -> Column:
    return Column(no_wrap=True, overflow="ellipsis" if has_symbols(console) else "crop")


class _TimeColumn(ProgressColumn):
    """The time left in the stage; the time that has passed while that is unknown."""

    def render(self, task: Task) -> Text:
        left_s, at_s = task.fields["left_s"], task.fields["at_s"]
        if left_s is None:
            return Text(format_duration(round(task.elapsed or 0.0)) if (task.elapsed or 0.0) >= 1 else "", style="dim")
        return Text(f"{format_duration(max(0, round(left_s - (time.monotonic() - at_s))))} left", style="dim")


class _Bars:
    """A bar for the current stage; above it, lines for stages that ended and for messages."""

    def __init__(self, progress: ProgressBar) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._time_left = TimeLeft()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Message):
            self._print(event.text, "yellow" if event.level == "warning" else "dim")
        elif isinstance(event, EpochMetrics):
            self._print(str(event), "dim")
        elif isinstance(event, StageEnded):
            self._end(event)
        elif isinstance(event, StageStarted):
            self._progress.update(self._task(event.stage), description=event.text)
        else:
            self._advance(event)

    def _advance(self, event: Progress) -> None:
        now_s = time.monotonic()
        rate = format_rate(event.rows_per_s) if event.rows_per_s else ""
        left_s = self._time_left.update(event, now_s)
        self._progress.update(
            self._task(event.stage),
            description=event.text,
            total=event.total or None,
            completed=event.done,
            rate=rate,
            left_s=left_s,
            at_s=now_s,
        )

    def _task(self, stage: str) -> TaskID:
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task("", stage=stage, rate="", left_s=None, at_s=0.0, total=None)
        return self._tasks[stage]

    def _end(self, event: StageEnded) -> None:
        task = self._tasks.pop(event.stage, None)
        spent_s = 0.0
        if task is not None:
            spent_s = self._progress.tasks[self._progress.task_ids.index(task)].elapsed or 0.0
            self._progress.remove_task(task)
        text = f"{event.stage:<9} {event.text} ({format_duration(round(spent_s))})"
        self._print(text, "", head=mark(self._progress.console, ok=True))

    def _print(self, text: str, style: str, head: Text | None = None) -> None:
        print_text(self._progress.console, text, indent=2, style=style, head=head)
