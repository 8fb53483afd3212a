"""The model to explain: a network in evaluation mode, its preprocessing, and what is known of the training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from farandole.bundle.program import PROGRAM, load_module
from farandole.errors import ModelError, UnavailableError
from farandole.explaining.columns import ColumnMap
from farandole.preprocess import Preprocessing
from farandole.shards import LabelColumn, Schema

if TYPE_CHECKING:
    from farandole.bundle import Bundle

STATISTICS = "statistics.json"
BLOCK_ROWS = 256
"""Rows that the network computes at once, always as many: the last bits of a product depend on their number."""


@dataclass(frozen=True)
class ExplainedModel:
    """A trained model whose computations can be followed.

    Args:
        network: The network, on a CPU and in evaluation mode.
        preprocessing: The fitted preprocessing.
        statistics: Raw column to statistics of its training rows, in the form of a manifest; those that are missing
            leave out what needs them.
        builder: Name of the network's builder, for errors.
    """

    network: nn.Module
    preprocessing: Preprocessing
    statistics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    builder: str = "the network"

    def __post_init__(self) -> None:
        if self.preprocessing.packs:
            raise ModelError(
                "features: rows of packed texts are windows over many texts, so no prediction belongs to a row that"
                " could be explained; use `mode: pad`"
            )
        if self.network.training:
            self.network.eval()
        self.network.requires_grad_(False)

    @cached_property
    def columns(self) -> ColumnMap:
        """Which values of which groups each raw column becomes."""
        return ColumnMap(self.preprocessing)

    @property
    def schema(self) -> Schema:
        """The columns that the network reads."""
        return self.preprocessing.schema

    @property
    def label(self) -> LabelColumn:
        """The predicted column."""
        return self.schema.target

    def outputs(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """Compute the network's outputs, float32 `[rows, outputs]`, in blocks of a fixed size.

        Args:
            features: `{group: [rows, ...]}`.
        """
        rows = count_rows(features)
        found = np.empty((rows, self.label.num_outputs), np.float32)
        for start in range(0, rows, BLOCK_ROWS):
            block = fill_rows({name: values[start : start + BLOCK_ROWS] for name, values in features.items()})
            stop = min(start + BLOCK_ROWS, rows)
            found[start:stop] = self.forward(block).numpy()[: stop - start]
        return found

    def forward(self, features: Mapping[str, np.ndarray]) -> torch.Tensor:
        """Compute the outputs of all rows at once, float32 `[rows, outputs]`; masks are bool, as in training."""
        masks = {group.name for group in self.schema.groups if group.kind == "mask"}
        tensors = {name: each.bool() if name in masks else each for name, each in as_tensors(features).items()}
        with torch.no_grad():
            outputs: torch.Tensor = self.network(**tensors).float()
        return outputs


def count_rows(features: Mapping[str, np.ndarray]) -> int:
    """Return the number of rows of features."""
    return len(next(iter(features.values())))


def fill_rows(features: Mapping[str, np.ndarray], rows: int = BLOCK_ROWS) -> dict[str, np.ndarray]:
    """Return features with copies of the last row added, up to a number of rows."""
    lacking = rows - count_rows(features)
    return {name: np.concatenate([values, np.repeat(values[-1:], lacking, 0)]) for name, values in features.items()}


def take_rows(features: Mapping[str, np.ndarray], rows: np.ndarray | slice) -> dict[str, np.ndarray]:
    """Return some rows of features."""
    return {name: values[rows] for name, values in features.items()}


def as_tensors(features: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Return features as tensors."""
    return {name: torch.from_numpy(np.array(values, copy=True, order="C")) for name, values in features.items()}


def require_captum() -> None:
    """Check that Captum is installed.

    Raises:
        UnavailableError: It is not.
    """
    from importlib.util import find_spec

    if find_spec("captum") is None:
        raise UnavailableError("captum is not installed, and explanations need it: pip install 'farandole[explain]'")


def open_explained(bundle: Bundle, *, run_code: bool = False) -> ExplainedModel:
    """Load the model of a bundle.

    Args:
        bundle: The bundle.
        run_code: Whether code that the bundle carries may run.

    Raises:
        BundleError: The network cannot be loaded, or code would have to run.
    """
    preprocessing, builder = bundle.preprocessing, bundle.model["builder"]
    known = bundle.read_json(STATISTICS).get("columns", {}) if bundle.has(STATISTICS) else {}
    if bundle.default_form == "eager":
        return ExplainedModel(bundle.network(run_code=run_code), preprocessing, known, builder)
    masks = frozenset(group.name for group in preprocessing.schema.groups if group.kind == "mask")
    program = load_module(bundle.path / PROGRAM)
    return ExplainedModel(ProgramNetwork(program, masks), preprocessing, known, f"the program of {builder}")


class ProgramNetwork(nn.Module):
    """A program of torch.export as a network whose lookups of ids are modules.

    Its checks of types are removed: they would refuse numbers between two pixels.

    Args:
        program: The program, which takes its groups as one mapping; it is changed.
        masks: Names of the groups that are masks, which the program takes as uint8.
    """

    def __init__(self, program: fx.GraphModule, masks: frozenset[str]) -> None:
        super().__init__()
        self.training = False  # a program cannot be asked to change its mode
        self.masks = masks
        self.program = program
        graph = program.graph
        for number, node in enumerate(list(graph.nodes)):
            if node.target is torch.ops.aten._assert_tensor_metadata.default:
                graph.erase_node(node)
            elif node.target is torch.ops.aten.embedding.default:
                name = f"lookup_{number}"
                program.add_submodule(name, _Lookup())
                with graph.inserting_before(node):
                    lookup = graph.call_module(name, (node.args[1], node.args[0]))
                node.replace_all_uses_with(lookup)
                graph.erase_node(node)
        program.recompile()

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        """Map all groups to logits or values `[B, O]`."""
        typed = {name: each.to(torch.uint8) if name in self.masks else each for name, each in groups.items()}
        outputs: torch.Tensor = self.program(typed)
        return outputs


class _Lookup(nn.Module):
    """A lookup of ids in a matrix that is an argument."""

    def forward(self, ids: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Map ids `[…]` and weights `[C, D]` to `[…, D]`."""
        return F.embedding(ids, weight)
