"""Weights of networks as safetensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from farandole.bundle.network import load_network, save_weights
from tests.support.bundles import fitted

TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.complex64, torch.complex128, torch.int64, torch.bool]


class Constant(nn.Module):
    """A network with one buffer."""

    def __init__(self, values: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values)


def build(schema: object, kind: str) -> nn.Module:
    """Build a network whose buffer is zero."""
    return Constant(torch.zeros(2, 3, dtype=getattr(torch, kind)))


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_buffers_of_every_type_are_stored(kind: torch.dtype, tmp_path: Path) -> None:
    values = torch.arange(6.0).reshape(3, 2).T.to(kind)
    if kind.is_complex:
        values = (values * (1 + 2j)).conj()
    save_weights(Constant(values), tmp_path / "weights.safetensors")
    name = str(kind).removeprefix("torch.")
    loaded = load_network(tmp_path, f"{__name__}:build", {"kind": name}, fitted().schema)
    torch.testing.assert_close(loaded.state_dict()["values"], values.resolve_conj(), rtol=0, atol=0)


def test_state_that_is_not_a_tensor_is_refused(tmp_path: Path) -> None:
    class Extra(nn.Module):
        def get_extra_state(self) -> int:
            return 1

    with pytest.raises(ValueError, match="_extra_state is not a tensor"):
        save_weights(Extra(), tmp_path / "weights.safetensors")
