"""A background thread that makes batches while the caller computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress

from farandole.loading.batch import Batch

DEFAULT_READ_AHEAD = 2
"""Maximum number of batches that are ready before the caller asks for them."""


def prefetch(batches: Iterator[Batch], depth: int = DEFAULT_READ_AHEAD) -> Iterator[Batch]:
    """Iterate over `batches` in a background thread and yield them unchanged.

    An exception in the thread is raised in the caller, after the batches that precede it.

    Args:
        batches: The batches.
        depth: Maximum number of batches that wait for the caller; 0 makes them in the caller's own thread.
    """
    return _run_in_thread(batches, depth) if depth else batches


def _run_in_thread(batches: Iterator[Batch], depth: int) -> Iterator[Batch]:
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: Batch | BaseException | None) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def fill() -> None:
        try:
            for batch in batches:
                put(batch)
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            put(error)

    thread = threading.Thread(target=fill, name="farandole-loader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
            del item  # frees the batch's memory for reuse while the caller waits for the next batch
    finally:
        stopped.set()
        thread.join()
