from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from farandole.bundle.pruning import apply_masks, archive_bytes, magnitude_masks, zero_share


def _network() -> nn.Module:
    """Return a network whose second matrix has much smaller weights than its first."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(20, 30), nn.LayerNorm(30), nn.Linear(30, 4))
    with torch.no_grad():
        network.get_parameter("2.weight").mul_(1e-3)
    return network


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9, 0.99])
def test_share_of_the_weights_in_matrices_is_pruned_and_no_vector(share: float) -> None:
    network = _network()
    masks = magnitude_masks(network, share)
    assert set(masks) == {"0.weight", "2.weight"}
    pruned = sum(int((~mask).sum()) for mask in masks.values())
    assert pruned == round(share * (600 + 120))
    apply_masks(network, masks)
    assert zero_share(network) == pytest.approx(pruned / 720)


def test_smallest_weights_of_a_matrix_are_pruned_and_no_matrix_vanishes() -> None:
    network = _network()
    for name, mask in magnitude_masks(network, 0.9).items():
        weights = network.get_parameter(name).detach().abs()
        assert mask.any()
        assert weights[mask].min() >= weights[~mask].max()


def test_choice_does_not_depend_on_the_scale_of_a_matrix() -> None:
    small, large = _network(), _network()
    with torch.no_grad():
        large.get_parameter("2.weight").mul_(1e4)
    for name, mask in magnitude_masks(small, 0.5).items():
        assert torch.equal(mask, magnitude_masks(large, 0.5)[name])


def test_network_without_matrices_or_with_zeros_alone_has_masks() -> None:
    assert magnitude_masks(nn.LayerNorm(3), 0.5) == {}
    assert zero_share(nn.LayerNorm(3)) == 0.0
    zeros = nn.Linear(4, 4)
    nn.init.zeros_(zeros.weight)
    assert int(magnitude_masks(zeros, 0.25)["weight"].sum()) == 12


def test_zeros_make_an_archive_smaller_and_not_the_file(tmp_path: Path) -> None:
    numbers, zeros = tmp_path / "numbers", tmp_path / "zeros"
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    numbers.write_bytes(values.numpy().tobytes())
    values[:5_000] = 0
    zeros.write_bytes(values.numpy().tobytes())
    assert zeros.stat().st_size == numbers.stat().st_size
    assert archive_bytes(zeros) < 0.6 * archive_bytes(numbers)
