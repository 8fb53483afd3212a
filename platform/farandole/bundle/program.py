"""The network of a bundle as a program of torch.export, which needs no builder.

An archive of torch.export may hold pickles, and its loader calls whatever function the program names and evaluates its
expressions of sizes as Python. Therefore a program is written without a pickle, and read only after a check that it has
none, names operators of tensors alone, and has expressions of sizes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM = "network.pt2"

_source: ContextVar[Callable[[Path], bool] | None] = ContextVar("program_source", default=None)


@contextmanager
def program_source(take: Callable[[Path], bool]) -> Iterator[None]:
    """Let `save_program` take the program from elsewhere inside the block: another process exports the same network.

    Args:
        take: Writes the program to a path; returns whether there is one.
    """
    token = _source.set(take)
    try:
        yield
    finally:
        _source.reset(token)


def save_program(network: nn.Module, features: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a network as a program.

    Args:
        network: The network, in evaluation mode.
        features: Features of one row.
        path: The file.

    Raises:
        Exception: torch.export cannot follow the network.
    """
    take = _source.get()
    if take is not None and take(path):
        return
    # Two rows, since torch.export would specialize a batch size of one.
    groups = {name: torch.from_numpy(values).repeat_interleave(2, 0) for name, values in features.items()}
    rows = torch.export.Dim("rows")
    shapes = ({name: {0: rows} for name in groups},)
    program = torch.export.export(_Exported(network), (groups,), dynamic_shapes=shapes, strict=False)
    program._example_inputs = None  # torch.export.save would pickle them
    torch.export.save(program, path)


def load_program(path: Path) -> Callable[[dict[str, torch.Tensor]], torch.Tensor]:
    """Load a program."""
    program: Callable[[dict[str, torch.Tensor]], torch.Tensor] = torch.export.load(path).module()
    return program


class _Exported(nn.Module):
    """A network that takes its groups as one mapping, since torch.export cannot describe the shapes of `**groups`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, groups: dict[str, torch.Tensor]) -> torch.Tensor:
        """Apply the network to the groups."""
        outputs: torch.Tensor = self.network(**groups)
        return outputs
