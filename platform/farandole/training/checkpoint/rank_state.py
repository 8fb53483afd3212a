"""The part of a checkpoint that belongs to one rank: random number generators, buffers, and unreduced sums."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import nn


def get_rng_states(device: torch.device) -> dict[str, Any]:
    """Return the states of the global generators of torch, NumPy, Python and the GPU, as tensors and plain values."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, words, next_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": {
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "gauss": float(gauss),
        },
        "python": {"version": version, "words": torch.tensor(words, dtype=torch.int64), "gauss": next_gauss},
    }


def set_rng_states(states: dict[str, Any], device: torch.device) -> None:
    """Restore the global generators. That of a GPU is left alone if the states were saved without one."""
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"], device)
    legacy = states["numpy"]
    keys = legacy["keys"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, legacy["position"], legacy["has_gauss"], legacy["gauss"]))
    python = states["python"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))


def get_rank_state(model: nn.Module, sums: list[float], device: torch.device, *, with_buffers: bool) -> dict[str, Any]:
    """Return the state of this rank.

    Args:
        model: The network.
        sums: Sums of this rank that have not been reduced over the ranks yet.
        device: Device of the network.
        with_buffers: Whether to include the network's buffers; rank zero's are part of the model's state.
    """
    buffers = {name: buffer.cpu() for name, buffer in model.named_buffers()} if with_buffers else {}
    return {"sums": sums, "buffers": buffers, "random": get_rng_states(device)}


def set_rank_state(state: dict[str, Any], model: nn.Module, device: torch.device) -> None:
    """Restore generators and buffers of this rank. Inside an epoch, buffers depend on the rows that a rank has seen."""
    buffers = dict(model.named_buffers())
    with torch.no_grad():
        for name, value in state["buffers"].items():
            buffers[name].copy_(value)
    set_rng_states(state["random"], device)
