"""A state as a tree of containers, plain values and tensors. Taken apart, its tensors can be copied or sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from farandole.errors import ModelError

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


@dataclass(frozen=True)
class TensorSlot:
    """Where a tensor was, by its number."""

    number: int


def flatten(tree: Any) -> tuple[Any, list[torch.Tensor]]:
    """A tree with slots for tensors, and the tensors. One that occurs twice (tied weights) is one tensor.

    Raises:
        ModelError: The tree holds an object that a checkpoint cannot hold: reading it back would run its code.
    """
    tensors: list[torch.Tensor] = []
    known: dict[Any, TensorSlot] = {}

    def apart(part: Any, path: str) -> Any:
        if isinstance(part, torch.Tensor):
            same = (
                (part.data_ptr(), part.dtype, part.shape, part.stride(), part.device) if part.numel() else len(tensors)
            )
            if same not in known:
                known[same] = TensorSlot(len(tensors))
                tensors.append(part.detach())
            return known[same]
        if isinstance(part, dict):
            return _like(
                part, {name: apart(value, f"{path}.{name}" if path else str(name)) for name, value in part.items()}
            )
        if isinstance(part, list | tuple):
            parts = [apart(value, f"{path}[{number}]") for number, value in enumerate(part)]
            return parts if isinstance(part, list) else tuple(parts)
        if type(part) not in _PLAIN:
            raise ModelError(
                f"model: the state {path} is a {type(part).__name__}, which a checkpoint cannot hold; let state_dict"
                " and get_extra_state give tensors, numbers, text, and lists and dicts of them"
            )
        return part

    return apart(tree, ""), tensors


def unflatten(tree: Any, tensors: list[torch.Tensor]) -> Any:
    """The tree with tensors in its slots."""
    if isinstance(tree, TensorSlot):
        return tensors[tree.number]
    if isinstance(tree, dict):
        return _like(tree, {name: unflatten(value, tensors) for name, value in tree.items()})
    if isinstance(tree, list | tuple):
        parts = [unflatten(value, tensors) for value in tree]
        return parts if isinstance(tree, list) else tuple(parts)
    return tree


def _like(mapping: dict[Any, Any], content: dict[Any, Any]) -> dict[Any, Any]:
    """The content in a mapping of the same type: a module's state dict carries the versions of its layers with it."""
    if not hasattr(mapping, "_metadata"):
        return content
    made = type(mapping)(content)
    made._metadata = mapping._metadata  # type: ignore[attr-defined]
    return made
