"""Random numbers that belong to rows: the same row draws the same ones in whatever batch, rank or order it comes.

A draw is 16 random bits. What is made of it (a choice, a whole number, a normal deviate) takes only whole numbers,
exact floats and a table, so that it is the same on every machine; logarithms and cosines differ between math libraries.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import numpy as np

from farandole.loading.philox import philox

STEPS = 2**16
"""How many values a draw has."""
_PER_COUNTER = 8
"""Draws in the 128 bits that one counter gives."""


def draws(key: int, row_ids: np.ndarray, count: int, stream: int = 0) -> np.ndarray:
    """So many draws for each row.

    Args:
        key: 64 bits.
        row_ids: int64 `[rows]`.
        count: Draws of a row. The first ones stay the same when more are asked for.
        stream: Which of a row's sequences.

    Returns:
        uint16 `[rows, count]`.
    """
    blocks = -(-count // _PER_COUNTER)
    ids = row_ids.astype(np.uint64)
    counters = np.empty((len(ids), blocks, 4), dtype=np.uint32)
    counters[:, :, 0] = (ids & np.uint64(0xFFFFFFFF))[:, None]
    counters[:, :, 1] = (ids >> np.uint64(32))[:, None]
    counters[:, :, 2] = np.arange(blocks)
    counters[:, :, 3] = stream
    words = philox(counters.reshape(-1, 4), key).astype("<u4", copy=False)
    return words.view("<u2").reshape(len(ids), blocks * _PER_COUNTER)[:, :count]


def happens(drawn: np.ndarray, probability: float) -> np.ndarray:
    """Yes or no, with a probability that is rounded to 1/65536 (one above 0 never to 0)."""
    threshold = max(1, round(probability * STEPS)) if probability else 0
    yes: np.ndarray = drawn < threshold
    return yes


def below(drawn: np.ndarray, limit: int) -> np.ndarray:
    """Whole numbers from 0 to `limit` - 1, int64; the bias is below `limit` / 65536."""
    numbers: np.ndarray = drawn.astype(np.int64) * limit >> 16
    return numbers


def around_one(drawn: np.ndarray, strength: float) -> np.ndarray:
    """Factors drawn evenly between 1 - `strength` and 1 + `strength`, float32."""
    centred = (drawn.astype(np.float32) - np.float32((STEPS - 1) / 2)) * np.float32(2 / STEPS)  # -1 to 1, exactly
    return np.float32(1) + centred * np.float32(strength)


def normal(drawn: np.ndarray) -> np.ndarray:
    """Normal deviates, float32: the middles of 65,536 slices of equal probability, up to 4.3 deviations."""
    return np.take(_quantiles(), drawn)


@cache
def _quantiles() -> np.ndarray:
    """The normal distribution's quantiles, rounded to 2**-20: a math library's last bit does not show."""
    inverse = NormalDist().inv_cdf
    upper = np.array([inverse((step + 0.5) / STEPS) for step in range(STEPS // 2, STEPS)])
    table = np.concatenate([-upper[::-1], upper])
    return (np.round(table * 2**20) / 2**20).astype(np.float32)
