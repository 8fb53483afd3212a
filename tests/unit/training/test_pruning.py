from __future__ import annotations

from pathlib import Path

import pytest
import torch

from farandole.bundle import open_bundle
from farandole.bundle.pruning import zero_share
from farandole.errors import BundleError
from farandole.models import mlp
from farandole.training.pruning import Pruning
from tests.support.bundles import OPTIONS, ROWS, fitted, small_network, write_small_bundle


def test_pruned_weights_stay_zero_and_have_no_gradient(tmp_path: Path) -> None:
    bundle = open_bundle(write_small_bundle(tmp_path / "bundle"))
    network = mlp.build(bundle.schema, **OPTIONS)
    pruning = Pruning(network, bundle, 0.6)
    assert zero_share(network) == pytest.approx(0.6, abs=0.01)
    features = bundle.preprocessing.features(bundle.preprocessing.raw_batch(ROWS))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        network(**{name: torch.from_numpy(values) for name, values in features.items()}).sum().backward()
        for name, mask in pruning.state_dict().items():
            gradient = network.get_parameter(name).grad
            assert gradient is not None
            assert not gradient[~mask].any()
        optimizer.step()
        pruning.apply()
    assert zero_share(network) == pytest.approx(0.6, abs=0.01)
    trained, start = network.state_dict(), small_network(fitted()).state_dict()
    assert any((trained[name][mask] != start[name][mask]).any() for name, mask in pruning.state_dict().items())


def test_restored_masks_replace_the_chosen_ones(tmp_path: Path) -> None:
    bundle = open_bundle(write_small_bundle(tmp_path / "bundle"))
    networks = [mlp.build(bundle.schema, **OPTIONS) for _ in range(2)]
    light, heavy = (Pruning(network, bundle, share) for network, share in zip(networks, (0.2, 0.7), strict=True))
    light.load_state_dict(heavy.state_dict())
    assert zero_share(networks[0]) == zero_share(networks[1])
    for name, tensor in networks[0].state_dict().items():
        assert torch.equal(tensor, networks[1].state_dict()[name])


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    bundle = open_bundle(write_small_bundle(tmp_path / "bundle"))
    with pytest.raises(BundleError, match=r"its weights do not fit the network .*; use the `model` part"):
        Pruning(mlp.build(bundle.schema, hidden=[4]), bundle, 0.5)
