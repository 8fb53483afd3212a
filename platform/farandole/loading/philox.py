"""Philox, a counter-based random number generator, for whole arrays, and permutations drawn from it.

Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.2 and table 2. Two
variants are used, both checked against the published known answers: Philox4x32-10 for arbitrary counters, in NumPy, and
streams of Philox4x64-10, in C. The order of rows must never change, whereas library permutations change between
versions.
"""

from __future__ import annotations

import numpy as np

from farandole.loading import rows

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox(counters: np.ndarray, key: int) -> np.ndarray:
    """Apply Philox4x32-10 to each counter.

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


class Streams:
    """Independent streams of random words under one key, available in any order.

    The words equal those of `numpy.random.Philox`, which takes 2 to 7% more of the loader's time.

    Args:
        key: 64 bits.
    """

    def __init__(self, key: int) -> None:
        self._key = key

    def words(self, count: int, stream: int) -> np.ndarray:
        """Return the first words of a stream.

        Args:
            count: Number of words.
            stream: Number of the stream, 0 to 2**64 - 1.

        Returns:
            uint64 `[count]`.
        """
        words = np.empty(count, dtype=np.uint64)
        rows.philox(self._key, stream, words)
        return words

    def permutation(self, size: int, stream: int) -> np.ndarray:
        """Return a permutation of 0 to `size` - 1: the indices, sorted by a random number for each.

        The low bits of each number are the index itself. No two numbers are therefore equal, and every correct sorting
        algorithm gives the same result; `rows.permute` takes half the time of NumPy's.

        Args:
            size: Number of indices, less than 2**32, which leaves each number more than 32 random bits.
            stream: Number of the key's stream, 0 to 2**64 - 1.

        Returns:
            int64 `[size]`.
        """
        numbers = self.words(size, stream)
        rows.permute(numbers)
        return numbers.view(np.int64)
