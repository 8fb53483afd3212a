"""The batch that a loader yields."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch


@dataclass(slots=True)
class Batch:
    """One rank's slice of a global batch. The caller owns its tensors and may keep or modify them.

    Args:
        features: One tensor `[rows, *shape]` per group; masks are bool, other groups have their own dtype.
        label: `[rows]`, int32 or float32; empty if the dataset has no label.
        rows: Number of rows on this rank, including padding.
        global_rows: Number of rows over all ranks, excluding padding; the divisor of a summed loss.
        mask: bool `[rows]`, False for padding; None unless the loader pads.
        row_ids: int64 `[rows]`, row numbers within the split, -1 for padding; None unless requested.
    """

    features: dict[str, torch.Tensor]
    label: torch.Tensor
    rows: int
    global_rows: int
    mask: torch.Tensor | None = None
    row_ids: np.ndarray | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`; copies from pinned memory are asynchronous."""
        if device.type == "cpu":
            return self
        return replace(
            self,
            features={name: tensor.to(device, non_blocking=True) for name, tensor in self.features.items()},
            label=self.label.to(device, non_blocking=True),
            mask=None if self.mask is None else self.mask.to(device, non_blocking=True),
        )
