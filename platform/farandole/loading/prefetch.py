"""Makes batches in a thread while the caller computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress

from farandole.loading.batch import Batch

DEFAULT_READ_AHEAD = 2
"""Batches that lie ready at most."""


def prefetch(batches: Iterator[Batch], depth: int = DEFAULT_READ_AHEAD) -> Iterator[Batch]:
    """The same batches, made by a thread while the caller computes. What the thread raises, the caller gets.

    Args:
        batches: The batches.
        depth: How many may lie ready; 0: there is no thread, and the caller's own makes them.
    """
    return _from_thread(batches, depth) if depth else batches


def _from_thread(batches: Iterator[Batch], depth: int) -> Iterator[Batch]:
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(maxsize=depth)
    unwanted = threading.Event()

    def put(item: Batch | BaseException | None) -> None:
        while not unwanted.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def work() -> None:
        try:
            for batch in batches:
                put(batch)
                if unwanted.is_set():
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised again in the caller's thread
            put(error)

    thread = threading.Thread(target=work, name="farandole-loader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
            del item  # or its memory could not be used again while the caller waits for the next
    finally:
        unwanted.set()
        thread.join()
