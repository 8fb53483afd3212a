"""The random states of one rank, as tensors and plain values."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def get_rng_states(device: torch.device) -> dict[str, Any]:
    """The states of torch's, NumPy's and Python's global generators, and of the GPU's."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, words, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": {
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "gauss": float(gauss),
        },
        "python": {"version": version, "words": torch.tensor(words, dtype=torch.int64), "gauss": gauss_next},
    }


def set_rng_states(states: dict[str, Any], device: torch.device) -> None:
    """Let the generators go on where they were. That of a GPU stays as it is where there was none."""
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"], device)
    legacy = states["numpy"]
    keys = legacy["keys"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, legacy["position"], legacy["has_gauss"], legacy["gauss"]))
    python = states["python"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
