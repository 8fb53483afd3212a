"""Export of a network by one rank for another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from farandole.bundle.program import load_program
from farandole.jobdir.layout import PROGRAM, PROGRAM_STATE
from farandole.preprocess import Observations, Preprocessing, learn
from farandole.spec import parse_job
from farandole.training.checkpoint import weights_digest
from farandole.training.program_export import export_program, take_program

JOB = {
    "name": "exported",
    "data": {
        "sources": {"a": {"path": "/a.parquet"}},
        "features": {"x": {"kind": "numeric"}, "z": {"kind": "numeric"}},
        "label": {"column": "y", "kind": "binary"},
    },
    "model": {"builder": "network:build"},
}


class Linear(nn.Module):
    """A network of one group; B rows, F numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, dense: torch.Tensor) -> torch.Tensor:
        """Map `[B, F]` to `[B, 1]`."""
        outputs: torch.Tensor = self.linear(dense)
        return outputs


class Branching(Linear):
    """A network that torch.export cannot follow: its path depends on the values."""

    def forward(self, dense: torch.Tensor) -> torch.Tensor:
        """Map `[B, F]` to `[B, 1]`."""
        return super().forward(dense if float(dense.sum()) > 0 else -dense)


@pytest.fixture
def fitted() -> Preprocessing:
    preprocessing = Preprocessing.from_spec(parse_job(JOB).data).with_types(
        {"x": "double", "z": "double", "y": "boolean"}
    )
    raw = preprocessing.raw_batch({"x": [1.0, 2.0, 4.0], "z": [0.0, 1.0, -1.0]})
    raw = raw.append_column("y", pa.array([True, False, True]))
    while not preprocessing.fitted:
        seen = Observations()
        seen.add(preprocessing, raw)
        preprocessing = learn(preprocessing, seen)
    return preprocessing


def test_exported_program_computes_what_the_network_does(fitted: Preprocessing, tmp_path: Path) -> None:
    network = Linear()
    export_program(network, fitted, tmp_path)
    taken = tmp_path / "taken.pt2"
    assert take_program(tmp_path, weights_digest(network.state_dict()), taken)
    rows = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    with torch.no_grad():
        computed = torch.from_numpy(load_program(taken)({"dense": rows}))
        torch.testing.assert_close(computed, network(torch.from_numpy(rows)))


def test_network_that_cannot_be_exported_is_left_to_rank_zero(fitted: Preprocessing, tmp_path: Path) -> None:
    network = Branching()
    export_program(network, fitted, tmp_path)
    assert (tmp_path / PROGRAM_STATE).exists()
    assert not (tmp_path / PROGRAM).exists()
    assert not take_program(tmp_path, weights_digest(network.state_dict()), tmp_path / "taken.pt2")


def test_program_that_nobody_waits_for_is_removed(fitted: Preprocessing, tmp_path: Path) -> None:
    network = Linear()
    assert not take_program(tmp_path, weights_digest(network.state_dict()), tmp_path / "taken.pt2", timeout_s=0.0)
    export_program(network, fitted, tmp_path)
    assert list(tmp_path.iterdir()) == []
