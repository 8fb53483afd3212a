"""Cases of the training benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.train.cases import TRAINING_CASES
from farandole.training.model_builder import build_model


@pytest.mark.parametrize("name", TRAINING_CASES)
def test_network_of_a_case_fits_its_columns(name: str, tmp_path: Path) -> None:
    case = TRAINING_CASES[name]
    model = build_model(case.job(tmp_path, 10), case.schema)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert (parameters > 9.9e6) == (name == "mlp10m")
