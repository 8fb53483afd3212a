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


class _Constant(torch.nn.Module):
    """A network with one buffer."""

    def __init__(self, values: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values)


def build_constant(schema: object, kind: str) -> torch.nn.Module:
    """Build a network whose buffer is zero."""
    return _Constant(torch.zeros(2, 3, dtype=getattr(torch, kind)))


@pytest.mark.parametrize("kind", ["float32", "float64", "bfloat16", "complex64", "complex128", "int64", "bool"])
def test_buffers_of_every_type_are_restored(kind: str, tmp_path: Path) -> None:
    values = torch.arange(6.0).reshape(3, 2).T.to(getattr(torch, kind))
    if values.is_complex():
        values = (values * (1 + 2j)).conj()
    save_weights(_Constant(values), tmp_path / "weights.safetensors")
    loaded = load_network(tmp_path, f"{__name__}:build_constant", {"kind": kind}, fitted().schema)
    torch.testing.assert_close(loaded.state_dict()["values"], values.resolve_conj(), rtol=0, atol=0)


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
