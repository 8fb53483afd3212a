"""A copy of a state in host memory, which a thread can write while the training changes the state itself."""

from __future__ import annotations

from typing import Any

import torch

from farandole.training.checkpoint.flatten import flatten, unflatten


class StagingBuffers:
    """Memory for one copy of a state, used again for the next: page faults of fresh memory take ten times as long as
    the copy. For tensors of a GPU it is pinned, so that all of them are copied at once and waited for once."""

    def __init__(self) -> None:
        self._buffers: list[torch.Tensor] = []

    def take(self, state: Any) -> Any:
        """A copy of the state; it holds until the next one is taken.

        Raises:
            ModelError: The state holds an object that a checkpoint cannot hold.
        """
        tree, tensors = flatten(state)
        self._buffers = [self._fitting(number, tensor) for number, tensor in enumerate(tensors)]
        for buffer, tensor in zip(self._buffers, tensors, strict=True):
            buffer.copy_(tensor, non_blocking=True)
        for device in {tensor.device for tensor in tensors if tensor.is_cuda}:
            torch.cuda.synchronize(device)
        return unflatten(tree, self._buffers)

    def _fitting(self, number: int, tensor: torch.Tensor) -> torch.Tensor:
        if number < len(self._buffers):
            buffer = self._buffers[number]
            if buffer.shape == tensor.shape and buffer.dtype == tensor.dtype and buffer.is_pinned() == tensor.is_cuda:
                return buffer
        return torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
