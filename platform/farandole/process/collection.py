"""Garbage collection around imports."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collection() -> Iterator[None]:
    """Pause Python's garbage collection for a block that mostly imports.

    Imports create hundreds of thousands of objects that live as long as the process, and the collector looks at all of
    them again and again: a tenth of the time of importing torch with its compiler. Later collections leave them out.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
