"""Philox4x32-10, the counter-based random number generator, for whole arrays.

Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.2 and table 2. It is
written out here because the order of rows must never change, and the permutations of libraries do.
"""

from __future__ import annotations

import numpy as np

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox(counters: np.ndarray, key: int) -> np.ndarray:
    """Ten rounds on each counter.

    Args:
        counters: uint32 `[n, 4]`.
        key: 64 bits.

    Returns:
        uint32 `[n, 4]`.
    """
    c0, c1, c2, c3 = (counters[:, word].astype(np.uint64) for word in range(4))
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(_ROUNDS):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (p1 >> _32) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _32) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def permutation(size: int, key: int, stream: int) -> np.ndarray:
    """A permutation of `size` places, drawn by sorting random numbers of 64 bits.

    Args:
        size: How many.
        key: 64 bits; another key, another permutation.
        stream: Which of a key's permutations, 0 to 2**64 - 1.

    Returns:
        int64 `[size]`.
    """
    counters = np.zeros(((size + 1) // 2, 4), dtype=np.uint32)
    counters[:, 0] = np.arange(len(counters), dtype=np.uint32)
    counters[:, 2] = stream & 0xFFFFFFFF
    counters[:, 3] = stream >> 32
    words = philox(counters, key).view(np.uint64).reshape(-1)[:size]
    # Two equal numbers of 64 bits are next to impossible; a stable sort settles them the same way everywhere.
    return np.argsort(words, kind="stable")
