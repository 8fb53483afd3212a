"""Random numbers that belong to rows: a row draws the same numbers in any batch, rank or order.

A draw is 16 random bits. The functions that turn draws into choices, integers, factors and normal deviates use only
integers, exact floats and a table, so results are identical on every machine; logarithms and cosines differ between
math libraries.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import numpy as np

from farandole.loading.philox import philox

NUM_VALUES = 2**16
"""Number of different values of a draw."""
_DRAWS_PER_COUNTER = 8
"""Draws in the 128 bits that one Philox counter yields."""


def draw(key: int, row_ids: np.ndarray, count: int, stream: int = 0) -> np.ndarray:
    """Draw random bits for each row.

    Args:
        key: 64 bits.
        row_ids: int64 `[rows]`.
        count: Draws per row. A larger count extends the sequence and leaves its beginning unchanged.
        stream: Which of the row's sequences to draw from.

    Returns:
        uint16 `[rows, count]`.
    """
    blocks = -(-count // _DRAWS_PER_COUNTER)
    ids = row_ids.astype(np.uint64)
    counters = np.empty((len(ids), blocks, 4), dtype=np.uint32)
    counters[:, :, 0] = (ids & np.uint64(0xFFFFFFFF))[:, None]
    counters[:, :, 1] = (ids >> np.uint64(32))[:, None]
    counters[:, :, 2] = np.arange(blocks)
    counters[:, :, 3] = stream
    words = philox(counters.reshape(-1, 4), key).astype("<u4", copy=False)
    return words.view("<u2").reshape(len(ids), blocks * _DRAWS_PER_COUNTER)[:, :count]


def to_bernoulli(draws: np.ndarray, probability: float) -> np.ndarray:
    """Convert draws to booleans that are True with a probability rounded to 1/65536 (never from above 0 to 0)."""
    threshold = max(1, round(probability * NUM_VALUES)) if probability else 0
    chosen: np.ndarray = draws < threshold
    return chosen


def to_integers(draws: np.ndarray, limit: int) -> np.ndarray:
    """Convert draws to int64 from 0 to `limit` - 1, with a bias below `limit` / 65536."""
    integers: np.ndarray = draws.astype(np.int64) * limit >> 16
    return integers


def to_factors(draws: np.ndarray, strength: float) -> np.ndarray:
    """Convert draws to float32 factors, uniform between 1 - `strength` and 1 + `strength`."""
    centred = (draws.astype(np.float32) - np.float32((NUM_VALUES - 1) / 2)) * np.float32(2 / NUM_VALUES)  # exact
    return np.float32(1) + centred * np.float32(strength)


def to_normal(draws: np.ndarray) -> np.ndarray:
    """Convert draws to float32 normal deviates: the midpoints of 65,536 equally likely slices, up to 4.3 deviations."""
    return np.take(_normal_quantiles(), draws)


@cache
def _normal_quantiles() -> np.ndarray:
    """Return the quantiles of the normal distribution, rounded to 2**-20 to hide the last bits of math libraries."""
    inverse = NormalDist().inv_cdf
    upper = np.array([inverse((value + 0.5) / NUM_VALUES) for value in range(NUM_VALUES // 2, NUM_VALUES)])
    table = np.concatenate([-upper[::-1], upper])
    return (np.round(table * 2**20) / 2**20).astype(np.float32)
