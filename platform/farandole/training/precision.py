"""Precision of a network's computations, and the loss scale that keeps float16 gradients representable."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from farandole.errors import TrainingError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_INITIAL_SCALE = 2.0**16
_GROWTH_STEPS = 2000
_MIN_SCALE = 2.0**-10


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which torch computes in bf16 or fp16 where rounding is safe.

    Weights and gradients stay float32.
    """
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])


class LossScaler:
    """Scales losses, so that small gradients do not vanish in float16 (Micikevicius et al. 2018, section 3.2).

    Whether a step is skipped depends on the summed gradients, which are the same on all ranks, so all ranks skip the
    same steps.
    """

    def __init__(self) -> None:
        self.scale = _INITIAL_SCALE
        self._good_steps = 0

    def record_overflow(self, step: int) -> None:
        """Halve the scale after a gradient that was not finite, whose step is skipped.

        Raises:
            TrainingError: The scale cannot be the cause.
        """
        self.scale, self._good_steps = self.scale / 2, 0
        if self.scale < _MIN_SCALE:
            raise TrainingError(
                f"train.precision: fp16: at step {step} gradients are not finite even at the smallest loss scale; use"
                " bf16 or fp32, or lower train.optimizer.learning_rate"
            )

    def record_success(self) -> None:
        """Count a step with finite gradients; double the scale after many of them."""
        self._good_steps += 1
        if self._good_steps == _GROWTH_STEPS:
            self.scale, self._good_steps = self.scale * 2, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain numbers."""
        return {"scale": self.scale, "good_steps": self._good_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.scale, self._good_steps = float(state["scale"]), int(state["good_steps"])
