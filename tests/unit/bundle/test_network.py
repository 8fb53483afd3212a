"""The weights of a network as safetensors."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import torch

from farandole.bundle.network import load_network, save_weights
from farandole.errors import BundleError
from tests.support.bundles import OPTIONS, fitted, small_network


class _Tied(torch.nn.Module):
    """Two layers with the same weights, and a buffer that is a conjugate view."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(3, 3)
        self.second = torch.nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("mirrored", torch.tensor([1 + 2j]).conj())


class _Extra(torch.nn.Module):
    """A network with a state of its own kind."""

    def get_extra_state(self) -> str:
        return "text"


def test_weights_are_restored_to_the_bit(tmp_path: Path) -> None:
    preprocessing = fitted()
    network = small_network(preprocessing)
    save_weights(network, tmp_path / "weights.safetensors")
    loaded = load_network(tmp_path, "farandole.models.mlp:build", OPTIONS, preprocessing.schema)
    assert not loaded.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_shared_and_conjugate_tensors_are_saved(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    network = _Tied()
    save_weights(network, tmp_path / "weights.safetensors")
    found = load_file(tmp_path / "weights.safetensors")
    assert torch.equal(found["first.weight"], found["second.weight"])
    assert found["mirrored"].tolist() == [1 - 2j]


def test_other_users_can_read_the_weights_as_far_as_the_umask_permits(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    save_weights(_Tied(), tmp_path / "weights.safetensors")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "weights.safetensors")]
    assert modes[0] == modes[1]


def test_a_state_that_is_not_a_tensor_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="_extra_state is not a tensor"):
        save_weights(_Extra(), tmp_path / "weights.safetensors")


@pytest.mark.parametrize("builder", ["farandole.models.no_such:build", "farandole.models.mlp:no_such"])
def test_a_builder_that_does_not_exist_is_an_error_of_the_bundle(tmp_path: Path, builder: str) -> None:
    preprocessing = fitted()
    save_weights(small_network(preprocessing), tmp_path / "weights.safetensors")
    with pytest.raises(BundleError, match="does not rebuild the network"):
        load_network(tmp_path, builder, OPTIONS, preprocessing.schema)
