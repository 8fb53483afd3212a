"""What to say when a loss or a gradient is not finite: where in the data, and where in the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from farandole.errors import TrainingError
from farandole.loading import Batch
from farandole.training import world

if TYPE_CHECKING:
    from farandole.training.step import Stepper

_SHOWN = 5
"""How many rows are named."""


@dataclass(frozen=True)
class NonFiniteDiagnosis:
    """Looks for the cause. Only called when training is over, so it may take its time.

    Args:
        stepper: What took the step.
        step: Its number, from 1.
        row_ids: Tells the numbers of the batch's rows in the training split.
    """

    stepper: Stepper
    step: int
    row_ids: Callable[[], np.ndarray]

    def loss(self, batch: Batch, losses: torch.Tensor) -> TrainingError:
        """The error for losses `[B]` of which some are not finite, on this rank alone."""
        rows = np.flatnonzero(~losses.isfinite().cpu().numpy())
        if not len(rows):  # each is finite, and their sum is not
            rows = losses.abs().argmax().reshape(1).cpu().numpy()
        value = losses[int(rows[0])].item()
        return TrainingError(
            f"train: the loss is {value} at step {self.step} on rank {self.stepper.gang.rank}, in {self._named(rows)}:"
            f" {self._cause(batch, rows)}; {self._remedy}"
        )

    def gradient(self, batch: Batch) -> Exception:
        """The error for a summed gradient that is not finite though all losses are. Called by all ranks: one whose own
        gradient is the cause tells it, the others are its victims."""
        names = self.stepper.update.nonfinite_params()
        row = self._row_of_gradient(batch)
        found = world.all_gather_rows(torch.tensor([int(row is not None)]), "not_finite").tolist()
        rank = self.stepper.gang.rank
        first = found.index(1) if any(found) else 0
        if rank != first:
            lost: Exception = world.PeerLostError(f"rank {first} has a gradient that is not finite")
            return lost
        where = f"from {self._named(np.array([row]))}" if row is not None else "in the sum over all ranks"
        shown = ", ".join(names[:_SHOWN]) or "a parameter of another rank"
        return TrainingError(
            f"train: the gradient of {shown} is not finite at step {self.step} on rank {rank}, {where}, though the loss"
            f" is; {self._remedy}"
        )

    @property
    def _remedy(self) -> str:
        spec = self.stepper.spec
        clip = "" if spec.clip_norm else " or set train.clip_norm"
        return f"lower train.optimizer.learning_rate ({spec.optimizer.learning_rate}){clip}, or mend the rows"

    def _named(self, rows: np.ndarray) -> str:
        """Rows of the batch, by their numbers in the split."""
        ids = self.row_ids()[rows].tolist()
        shown = ", ".join(str(number) for number in ids[:_SHOWN])
        more = f" and {len(ids) - _SHOWN:,} more" if len(ids) > _SHOWN else ""
        return f"{'row' if len(ids) == 1 else 'rows'} {shown}{more} of the training split"

    def _cause(self, batch: Batch, rows: np.ndarray) -> str:
        """The first thing on the way from the rows to the loss that is not finite."""
        for name, parameter in self.stepper.model.named_parameters():
            if not bool(parameter.isfinite().all()):
                return f"the weights {name} are not finite any more"
        chosen = _rows(batch, torch.as_tensor(rows)).to(self.stepper.device)
        for name, values in chosen.features.items():
            if values.is_floating_point() and not bool(values.isfinite().all()):
                return f"the features {name} are not finite"
        if chosen.label.is_floating_point() and not bool(chosen.label.isfinite().all()):
            return "the label is not finite"
        module = self._first_module(chosen)
        return f"the output of {module} is not finite" if module else "the outputs are finite, the loss is not"

    def _first_module(self, batch: Batch) -> str | None:
        """The first module whose output is not finite."""
        found: list[str] = []

        def look(name: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(_: nn.Module, __: Any, output: Any) -> None:
                if (
                    isinstance(output, torch.Tensor)
                    and output.is_floating_point()
                    and not bool(output.isfinite().all())
                ):
                    found.append(name)

            return hook

        model = self.stepper.model
        handles = [module.register_forward_hook(look(name or "the network")) for name, module in model.named_modules()]
        try:
            with torch.no_grad():
                model(**batch.features)
        finally:
            for handle in handles:
                handle.remove()
        return found[0] if found else None

    def _row_of_gradient(self, batch: Batch) -> int | None:
        """One row of this rank whose own gradient is not finite, by halving; None: there is none."""
        start, stop = 0, batch.rows
        if not stop or self._gradient_is_finite(batch, start, stop):
            return None
        while stop - start > 1:
            middle = (start + stop) // 2
            if not self._gradient_is_finite(batch, start, middle):
                stop = middle
            elif not self._gradient_is_finite(batch, middle, stop):
                start = middle
            else:  # it takes both halves
                break
        return start

    def _gradient_is_finite(self, batch: Batch, start: int, stop: int) -> bool:
        parameters = [parameter for parameter in self.stepper.model.parameters() if parameter.requires_grad]
        part = _rows(batch, torch.arange(start, stop)).to(self.stepper.device)
        loss = self.stepper.losses(part).sum() / batch.global_rows
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        return all(bool(gradient.isfinite().all()) for gradient in gradients if gradient is not None)


def _rows(batch: Batch, rows: torch.Tensor) -> Batch:
    features = {name: tensor[rows] for name, tensor in batch.features.items()}
    return replace(batch, features=features, label=batch.label[rows], rows=len(rows))
