from __future__ import annotations

import pytest
import torch

from farandole.errors import TrainingError
from farandole.training.precision import LossScaler, autocast


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_matrices_are_multiplied_in_the_configured_precision(precision: str, dtype: torch.dtype) -> None:
    with autocast(precision, torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_overflow_halves_the_scale_and_successes_double_it() -> None:
    scaler = LossScaler()
    first = scaler.scale
    scaler.record_overflow(1)
    assert scaler.scale == first / 2
    for _ in range(1999):
        scaler.record_success()
    assert scaler.scale == first / 2
    other = LossScaler()
    other.load_state_dict(scaler.state_dict())
    other.record_success()
    assert other.scale == first


def test_overflow_at_the_smallest_scale_ends_training() -> None:
    scaler = LossScaler()
    for step in range(1, 27):
        scaler.record_overflow(step)
    with pytest.raises(TrainingError, match=r"train\.precision: fp16: at step 27 gradients are not finite even at"):
        scaler.record_overflow(27)
