"""Displays a job's events on stderr: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as ProgressBar
from rich.table import Column

from farandole.events import EpochMetrics, Event, EventHandler, Message, Progress, StageEnded, StageStarted

_PLAIN_EVERY_S = 10.0


@contextmanager
def event_display() -> Iterator[EventHandler]:
    """Yield an event handler that displays events for the length of the block."""
    if sys.stderr.isatty():
        with _bars() as on_event:
            yield on_event
    else:
        yield _Lines()


class _Lines:
    """A line for each stage and message, and one for progress every few seconds: for logs and pipes."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._printed_s = 0.0
        self._text = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._advance(event)
        else:
            self._print(str(event))

    def _advance(self, event: Progress) -> None:
        now = time.monotonic()
        if event.unit == "tasks" and event.text == self._text and now - self._printed_s < _PLAIN_EVERY_S:
            return
        if event.unit == "rows" and now - self._printed_s < _PLAIN_EVERY_S:
            return
        self._printed_s, self._text = now, event.text
        self._print(str(event))

    def _print(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started_s:6.1f} s] {text}", file=sys.stderr, flush=True)


@contextmanager
def _bars() -> Iterator[EventHandler]:
    def column(least: int) -> Column:
        return Column(no_wrap=True, min_width=least)

    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[stage]:<9}", style="bold", table_column=column(9)),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=16, table_column=column(16)),
        TextColumn("{task.fields[rate]}", style="cyan", table_column=column(14)),
        TimeElapsedColumn(table_column=column(7)),
        TextColumn("left", style="dim", table_column=column(4)),
        TimeRemainingColumn(table_column=column(7)),
    )
    with ProgressBar(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bars(progress)


class _Bars:
    """A bar for the current stage; above it, lines for stages that ended and for messages."""

    def __init__(self, progress: ProgressBar) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Message):
            style = "yellow" if event.level == "warning" else "dim"
            self._progress.console.print(event.text, style=style, markup=False, highlight=False)
        elif isinstance(event, EpochMetrics):
            self._progress.console.print(str(event), style="dim", markup=False, highlight=False)
        elif isinstance(event, StageEnded):
            self._end(event)
        elif isinstance(event, StageStarted):
            self._progress.update(self._task(event.stage), description=event.text)
        else:
            rate = f"{event.rows_per_s:,.0f} rows/s" if event.rows_per_s else ""
            total = event.total or None
            task = self._task(event.stage)
            self._progress.update(task, description=event.text, total=total, completed=event.done, rate=rate)

    def _task(self, stage: str) -> TaskID:
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task("", stage=stage, rate="", total=None)
        return self._tasks[stage]

    def _end(self, event: StageEnded) -> None:
        task = self._tasks.pop(event.stage, None)
        spent_s = 0.0
        if task is not None:
            spent_s = self._progress.tasks[self._progress.task_ids.index(task)].elapsed or 0.0
            self._progress.remove_task(task)
        line = f"[green]✔[/green] [bold]{event.stage:<9}[/bold] {escape(event.text)} [dim]({spent_s:.0f} s)[/dim]"
        self._progress.console.print(line, highlight=False)
