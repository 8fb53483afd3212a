"""Magnitude pruning: the smallest weights of a network's matrices become 0.

Weights of different matrices have different scales, and the smallest ones of the whole network may be all of one
matrix. So each weight has a score that compares it with its own matrix: its square, divided by the sum of the squares
of all weights that are not smaller (LAMP, Lee et al. 2021, arXiv 2010.07611, equation 3). The lowest scores of the
whole network are pruned; the largest weight of a matrix has the score 1 and always stays.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

_LEVEL = 6


def magnitude_masks(network: nn.Module, share: float) -> dict[str, torch.Tensor]:
    """Choose the weights that stay.

    Args:
        network: The network; its parameters of two or more dimensions are its matrices.
        share: The share of all their weights that is pruned, from 0 to below 1.

    Returns:
        Name of each matrix to a mask of its shape, false where a weight is pruned.
    """
    matrices = {name: parameter.detach() for name, parameter in network.named_parameters() if parameter.ndim > 1}
    if not matrices:
        return {}
    scores = torch.cat([_scores(matrix) for matrix in matrices.values()])
    pruned = torch.zeros(len(scores), dtype=torch.bool)
    pruned[torch.argsort(scores, stable=True)[: round(share * len(scores))]] = True
    masks, start = {}, 0
    for name, matrix in matrices.items():
        part = pruned[start : start + matrix.numel()]
        masks[name] = ~part.view(matrix.shape).to(matrix.device)
        start += matrix.numel()
    return masks


def _scores(matrix: torch.Tensor) -> torch.Tensor:
    """Return the scores of the weights of a matrix, flat, on the CPU."""
    squares = matrix.abs().double().cpu().flatten() ** 2
    order = torch.argsort(squares, descending=True, stable=True)
    ordered = squares[order]
    scores = torch.empty_like(squares)
    scores[order] = ordered / ordered.cumsum(0).clamp(min=torch.finfo(torch.float64).tiny)
    return scores


@torch.no_grad()
def apply_masks(network: nn.Module, masks: Mapping[str, torch.Tensor]) -> None:
    """Set the pruned weights of a network to 0."""
    parameters = dict(network.named_parameters())
    for name, mask in masks.items():
        parameters[name].mul_(mask)


def zero_share(network: nn.Module) -> float:
    """Return the share of 0 among the weights in a network's matrices."""
    matrices = [parameter.detach() for parameter in network.parameters() if parameter.ndim > 1]
    weights = sum(matrix.numel() for matrix in matrices)
    return sum(int((matrix == 0).sum()) for matrix in matrices) / weights if weights else 0.0


def archive_bytes(file: Path) -> int:
    """Return the size of a file that gzip has compressed, in bytes: what a transfer or an archive of it takes."""
    return len(gzip.compress(file.read_bytes(), _LEVEL))
