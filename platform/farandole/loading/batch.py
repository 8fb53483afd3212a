"""What a loader hands out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch


@dataclass(slots=True)
class Batch:
    """This rank's part of one global batch. Its tensors are the caller's: they may be kept and changed.

    Args:
        features: For each group a tensor `[rows, *shape]`; a mask is bool, the others have the group's own type.
        label: `[rows]`, int32 or float32; empty where the dataset has no label.
        rows: The rows of this rank, padding included.
        global_rows: The rows of the batch over all ranks, without padding; what a sum of losses is divided by.
        mask: bool `[rows]`, False where a row is padding; None where nothing is ever padded.
        row_ids: int64 `[rows]`, the numbers of the rows in the split, -1 for padding; None where nobody asked for them.
    """

    features: dict[str, torch.Tensor]
    label: torch.Tensor
    rows: int
    global_rows: int
    mask: torch.Tensor | None = None
    row_ids: np.ndarray | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        if device.type == "cpu":
            return self
        return replace(
            self,
            features={name: tensor.to(device, non_blocking=True) for name, tensor in self.features.items()},
            label=self.label.to(device, non_blocking=True),
            mask=None if self.mask is None else self.mask.to(device, non_blocking=True),
        )
