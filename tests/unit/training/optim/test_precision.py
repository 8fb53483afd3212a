from __future__ import annotations

import pytest
import torch

from farandole.errors import TrainingError
from farandole.training.optim.precision import LossScaler, autocast


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_matrices_are_multiplied_in_the_given_precision(precision: str, dtype: torch.dtype) -> None:
    with autocast(precision, torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_an_overflow_halves_the_scale_and_many_good_steps_double_it() -> None:
    scaler = LossScaler()
    first = scaler.scale
    scaler.overflowed(1)
    assert scaler.scale == first / 2
    for _ in range(1999):
        scaler.fitted()
    assert scaler.scale == first / 2
    other = LossScaler()
    other.load_state_dict(scaler.state_dict())
    other.fitted()
    assert other.scale == first


def test_a_scale_that_does_not_help_ends_the_training() -> None:
    scaler = LossScaler()
    for step in range(1, 27):
        scaler.overflowed(step)
    with pytest.raises(TrainingError, match=r"train\.precision: fp16: at step 27 gradients are not finite, however"):
        scaler.overflowed(27)
