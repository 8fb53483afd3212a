from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch

from farandole.training.checkpoint.format import read_state, write_state
from farandole.training.checkpoint.rank_state import get_rng_states, set_rng_states


def _draws() -> list[object]:
    torchs = [torch.rand(3).tolist(), torch.randn(2).tolist()]
    numpys = [np.random.rand(3).tolist(), np.random.randn()]
    return [*torchs, *numpys, random.random(), random.gauss(0, 1)]


def test_generators_resume_from_states_in_a_file(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    _draws()  # so that each generator of normal deviates holds a spare one
    described = write_state(tmp_path / "state.pt", get_rng_states(cpu))
    expected = _draws()
    _draws()
    set_rng_states(read_state(tmp_path / "state.pt", described), cpu)
    assert _draws() == expected
