"""Exported programs, which have no modules to hook, as networks that explanations can follow."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import fx, nn


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
