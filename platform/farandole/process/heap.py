"""The heap of a process that computes block after block."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)
_MAX_MMAP_THRESHOLD = 32 * 2**20
"""glibc accepts no larger threshold."""


def keep_freed_memory() -> bool:
    """Make glibc keep the memory that this process frees.

    Each step frees what it allocated, and the next step needs the same memory again. By default glibc returns large
    blocks to the kernel, which then zeroes every page again: 20 to 30% of the time of a small convolutional network.

    Returns:
        Whether it does; other C libraries have no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    settings = {_MMAP_THRESHOLD: _MAX_MMAP_THRESHOLD, _TRIM_THRESHOLD: 2**30, _TOP_PAD: 16 * 2**20}
    accepted = [mallopt(name, value) == 1 for name, value in settings.items()]
    return all(accepted)
