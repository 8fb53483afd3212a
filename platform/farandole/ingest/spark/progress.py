"""Progress of Spark: the current step of a preparation, and the number of its finished tasks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from farandole.events import EventHandler, Message, Progress

_POLL_S = 0.2


class StepReporter:
    """Reporter of the steps of a preparation.

    Args:
        session: The Spark session.
        on_event: Receives the events.
    """

    def __init__(self, session: SparkSession, on_event: EventHandler) -> None:
        self._tracker = session.sparkContext.statusTracker()
        self._on_event = on_event
        self._text = ""
        self._ended = threading.Event()

    def begin(self, text: str) -> None:
        """Report that a step begins."""
        self._text = text
        self._on_event(Progress("prepare", 0, 0, "tasks", text))

    def warn(self, text: str) -> None:
        """Report a warning."""
        self._on_event(Message(text, level="warning"))

    def poll(self) -> None:
        """Report the number of finished tasks whenever it changes, until `end` is called."""
        last = (0, 0)
        while not self._ended.wait(_POLL_S):
            try:
                stages = [self._tracker.getStageInfo(stage) for stage in self._tracker.getActiveStageIds()]
            except (PySparkException, Py4JError, OSError):
                return  # Spark is ending
            now = (
                sum(stage.numCompletedTasks for stage in stages if stage),
                sum(stage.numTasks for stage in stages if stage),
            )
            if now != last and now[1]:
                self._on_event(Progress("prepare", *now, "tasks", self._text))
            last = now

    def end(self) -> None:
        """Make `poll` return."""
        self._ended.set()


@contextmanager
def reported_steps(session: SparkSession, on_event: EventHandler) -> Iterator[StepReporter]:
    """Report the progress of Spark's tasks for the length of the block, from a thread."""
    reporter = StepReporter(session, on_event)
    thread = threading.Thread(target=reporter.poll, name="farandole-spark-progress", daemon=True)
    thread.start()
    try:
        yield reporter
    finally:
        reporter.end()
        thread.join()
