"""Images as numbers that a network likes."""

from __future__ import annotations

import torch


def scaled(images: torch.Tensor) -> torch.Tensor:
    """float32 in [-1, 1] of uint8 in [0, 255], of any shape."""
    return images.float() / 127.5 - 1


def planes(images: torch.Tensor) -> torch.Tensor:
    """float32 `[B, C, H, W]` in [-1, 1] of uint8 `[B, H, W, C]`, in the memory format `channels_last`."""
    return scaled(images).permute(0, 3, 1, 2)
