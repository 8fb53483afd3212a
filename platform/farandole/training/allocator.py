"""How the C library's allocator deals with memory that tensors give back."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)
_MOST_OF_MMAP = 32 * 2**20
"""glibc takes no larger threshold."""


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees.

    A step frees what it has allocated, and the next one needs the same again. By default glibc gives large pieces back
    to the kernel, which clears every page of them anew: of a small convolutional network's time the kernel had 20 to
    30% that way. Where the C library is another one, nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _MOST_OF_MMAP)
        mallopt(_TRIM_THRESHOLD, 2**30)
        mallopt(_TOP_PAD, 16 * 2**20)
