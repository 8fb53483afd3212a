"""Draws a job's events: a live bar on a terminal, plain lines elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from farandole.progress import Advanced, Event, Noted, StageEnded, StageStarted, Watcher

_PLAIN_EVERY_S = 10.0


@contextmanager
def watching() -> Iterator[Watcher]:
    """A watcher for the length of the block."""
    if sys.stderr.isatty():
        with _bars() as watch:
            yield watch
    else:
        yield _Lines()


class _Lines:
    """One line for each stage and note, and now and then one for progress: for logs and pipes."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._told = 0.0
        self._text = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Advanced):
            self._advance(event)
        elif isinstance(event, Noted):
            self._print(f"{'warning: ' if event.level == 'warning' else ''}{event.text}")
        else:
            self._print(f"{event.stage}: {event.text}")

    def _advance(self, event: Advanced) -> None:
        now = time.monotonic()
        if event.unit == "tasks" and event.text == self._text and now - self._told < _PLAIN_EVERY_S:
            return
        if event.unit == "rows" and now - self._told < _PLAIN_EVERY_S:
            return
        self._told, self._text = now, event.text
        done = f", {event.done:,} of {event.total:,} {event.unit}" if event.total else ""
        rate = f", {event.rows_per_s:,.0f} rows/s" if event.rows_per_s else ""
        self._print(f"{event.stage}: {event.text}{done}{rate}")

    def _print(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started:6.1f} s] {text}", file=sys.stderr, flush=True)


@contextmanager
def _bars() -> Iterator[Watcher]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        SpinnerColumn(finished_text="[green]✔"),
        TextColumn("{task.fields[stage]:<9}", style="bold"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[rate]}", style="cyan"),
        TimeElapsedColumn(),
        TextColumn("left", style="dim"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        tasks: dict[str, TaskID] = {}

        def watch(event: Event) -> None:
            if isinstance(event, Noted):
                progress.console.print(event.text, style="yellow" if event.level == "warning" else "dim", markup=False)
                return
            if event.stage not in tasks:
                tasks[event.stage] = progress.add_task("", stage=event.stage, rate="", total=None)
            task = tasks[event.stage]
            if isinstance(event, StageStarted):
                progress.update(task, description=event.text)
            elif isinstance(event, StageEnded):
                progress.update(task, description=event.text, total=1, completed=1)
            else:
                rate = f"{event.rows_per_s:,.0f} rows/s" if event.rows_per_s else ""
                progress.update(
                    task,
                    description=event.text,
                    total=event.total or None,
                    completed=event.done,
                    rate=rate,
                )

        yield watch
