"""What a network computes in, and how losses are scaled so that gradients fit into it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from farandole.errors import TrainingError

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_FIRST_SCALE = 2.0**16
_GROWTH_STEPS = 2000
_LEAST_SCALE = 2.0**-10


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """In this context torch computes what may be rounded in bf16 or fp16; weights and gradients stay float32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_TYPES[precision])


class LossScaler:
    """Scales losses, so that small gradients do not vanish in float16 (Micikevicius et al. 2018, section 3.2).

    Whether a step is left out follows from the summed gradients, which are the same on all ranks, so all leave out the
    same steps.
    """

    def __init__(self) -> None:
        self.scale = _FIRST_SCALE
        self._good_steps = 0

    def overflowed(self, step: int) -> None:
        """A gradient was not finite: the step is left out, and the scale halved.

        Raises:
            TrainingFailed: It cannot be the scale.
        """
        self.scale, self._good_steps = self.scale / 2, 0
        if self.scale < _LEAST_SCALE:
            raise TrainingError(
                f"train.precision: fp16: at step {step} gradients are not finite, however small the loss is scaled; use"
                " bf16 or fp32, or lower train.optimizer.learning_rate"
            )

    def fitted(self) -> None:
        """All gradients were finite: after many such steps the scale is doubled."""
        self._good_steps += 1
        if self._good_steps == _GROWTH_STEPS:
            self.scale, self._good_steps = self.scale * 2, 0

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"scale": self.scale, "good_steps": self._good_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.scale, self._good_steps = float(state["scale"]), int(state["good_steps"])
