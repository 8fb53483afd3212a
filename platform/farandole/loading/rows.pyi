"""Row order and row copies in C (`rows.c`)."""

from collections.abc import Sequence

import numpy as np

def copy(
    parts: Sequence[tuple[list[np.ndarray], np.ndarray, int]],
    row_bytes: Sequence[int],
    targets: Sequence[np.ndarray],
    /,
) -> None: ...
def choose(pool: np.ndarray, chosen: np.ndarray, row_bytes: int, target: np.ndarray, /) -> None: ...
def permute(words: np.ndarray, /) -> None: ...
def philox(key: int, stream: int, words: np.ndarray, /) -> None: ...
