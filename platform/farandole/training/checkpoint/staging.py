"""Staging of a state: its tensors, a copy of them in host memory, and the thread that writes the copy.

The training continues, and changes the state, while the copy is written.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from farandole.errors import ModelError

_PLAIN_TYPES = (bool, int, float, complex, str, bytes, type(None))
_NICENESS = 10
"""Lower priority of the writer. Much more would be harmful: at times it holds Python's lock, and a thread that hardly
ever runs would keep the others waiting for it."""


@dataclass(frozen=True)
class TensorSlot:
    """Position of a tensor in a flattened state, by its number."""

    number: int


def flatten(state: Any) -> tuple[Any, list[torch.Tensor]]:
    """Split a state into a tree with slots, and its tensors. A tensor that occurs twice (tied weights) is listed once.

    Raises:
        ModelError: The state holds an object that a checkpoint cannot hold, because reading it would run its code.
    """
    tensors: list[torch.Tensor] = []
    known: dict[Any, TensorSlot] = {}

    def split(part: Any, path: str) -> Any:
        if isinstance(part, torch.Tensor):
            key = (
                (part.data_ptr(), part.dtype, part.shape, part.stride(), part.device) if part.numel() else len(tensors)
            )
            if key not in known:
                known[key] = TensorSlot(len(tensors))
                tensors.append(part.detach())
            return known[key]
        if isinstance(part, dict):
            return _like(
                part, {name: split(value, f"{path}.{name}" if path else str(name)) for name, value in part.items()}
            )
        if isinstance(part, list | tuple):
            parts = [split(value, f"{path}[{number}]") for number, value in enumerate(part)]
            return parts if isinstance(part, list) else tuple(parts)
        if type(part) not in _PLAIN_TYPES:
            raise ModelError(
                f"model: the state {path} is a {type(part).__name__}, which a checkpoint cannot hold; let state_dict"
                " and get_extra_state return tensors, numbers, text, and lists and dicts of them"
            )
        return part

    return split(state, ""), tensors


def unflatten(tree: Any, tensors: list[torch.Tensor]) -> Any:
    """Return the tree with tensors in its slots."""
    if isinstance(tree, TensorSlot):
        return tensors[tree.number]
    if isinstance(tree, dict):
        return _like(tree, {name: unflatten(value, tensors) for name, value in tree.items()})
    if isinstance(tree, list | tuple):
        parts = [unflatten(value, tensors) for value in tree]
        return parts if isinstance(tree, list) else tuple(parts)
    return tree


def _like(mapping: dict[Any, Any], content: dict[Any, Any]) -> dict[Any, Any]:
    """Return the content in a mapping of the same type: a module's state dict carries its layers' versions."""
    if not hasattr(mapping, "_metadata"):
        return content
    made = type(mapping)(content)
    made._metadata = mapping._metadata  # type: ignore[attr-defined]
    return made


class StagingBuffers:
    """Host memory for a copy of a state, reused for the next one.

    Page faults of fresh memory take ten times as long as the copy itself. For GPU tensors the memory is pinned, so that
    all of them are copied at once and awaited once.
    """

    def __init__(self) -> None:
        self._buffers: list[torch.Tensor] = []

    def copy(self, state: Any) -> Any:
        """Copy a state; the copy is valid until the next call.

        Raises:
            ModelError: The state holds an object that a checkpoint cannot hold.
        """
        tree, tensors = flatten(state)
        self._buffers = [self._buffer_for(number, tensor) for number, tensor in enumerate(tensors)]
        for buffer, tensor in zip(self._buffers, tensors, strict=True):
            buffer.copy_(tensor, non_blocking=True)
        for device in {tensor.device for tensor in tensors if tensor.is_cuda}:
            torch.cuda.synchronize(device)
        return unflatten(tree, self._buffers)

    def _buffer_for(self, number: int, tensor: torch.Tensor) -> torch.Tensor:
        if number < len(self._buffers):
            buffer = self._buffers[number]
            if buffer.shape == tensor.shape and buffer.dtype == tensor.dtype and buffer.is_pinned() == tensor.is_cuda:
                return buffer
        return torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)


class BackgroundWriter:
    """Runs one task at a time in a thread of low priority.

    Args:
        asynchronous: Whether to use a thread; otherwise `start` runs the task itself.
    """

    def __init__(self, *, asynchronous: bool) -> None:
        self._asynchronous = asynchronous
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def is_busy(self) -> bool:
        """True while a task is running."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, task: Callable[[], object]) -> None:
        """Start a task after the previous one has finished.

        Raises:
            BaseException: Raised by the previous task, or by this one if it is not asynchronous.
        """
        self.finish()
        if not self._asynchronous:
            task()
            return
        self._thread = threading.Thread(target=self._run, args=(task,), name="farandole-checkpoint", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise the exception of the last task, once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def finish(self, timeout_s: float | None = None) -> None:
        """Wait until the task has finished, or until the time-out.

        Raises:
            BaseException: Raised by the task.
        """
        if self._thread is not None:
            self._thread.join(timeout_s)
        self.check()

    def _run(self, task: Callable[[], object]) -> None:
        if sys.platform == "linux":  # elsewhere this would change the priority of the whole process
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + _NICENESS)
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that trains
            self._failure = error
