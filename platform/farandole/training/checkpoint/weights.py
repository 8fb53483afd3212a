"""One hash for all weights, by which two trainings are compared."""

from __future__ import annotations

import hashlib

import torch


def weights_digest(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes and bytes of a state dict, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
