"""Diagnosis of a loss or gradient that is not finite: the cause in the data, or in the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from farandole.errors import TrainingError
from farandole.loading import Batch
from farandole.spec import Train
from farandole.training import world
from farandole.training.world import World

_MAX_LISTED = 5
"""Most rows or parameters that a message lists."""


@dataclass(frozen=True)
class NonFiniteDiagnosis:
    """Search for the cause. Runs only when training has failed, so it may take its time.

    Args:
        spec: How to train.
        model: The network.
        row_losses: Computes the loss of each row of a batch on the device.
        gang: Position of this rank.
        device: Device of the network.
        step: Number of the step, from 1.
        row_ids: Returns the numbers of the batch's rows in the training split; None: it has rows of other splits.
    """

    spec: Train
    model: nn.Module
    row_losses: Callable[[Batch], torch.Tensor]
    gang: World
    device: torch.device
    step: int
    row_ids: Callable[[], np.ndarray] | None

    def explain_loss(self, batch: Batch, losses: torch.Tensor) -> TrainingError:
        """Return the error for losses `[B]` of this rank of which some are not finite."""
        rows = np.flatnonzero(~losses.isfinite().cpu().numpy())
        if not len(rows):  # every loss is finite, but their sum is not
            rows = losses.abs().argmax().reshape(1).cpu().numpy()
        value = losses[int(rows[0])].item()
        return TrainingError(
            f"train: the loss is {value} at step {self.step} on rank {self.gang.rank}, in {self._list_rows(rows)}:"
            f" {self._find_cause(batch, rows)}; {self._remedy}"
        )

    def explain_gradient(self, batch: Batch, parameters: list[str]) -> Exception:
        """Return the error for a summed gradient that is not finite although all losses are.

        All ranks have to call it: one whose own gradient is the cause reports it, the others are its victims.

        Args:
            batch: This rank's part of the global batch.
            parameters: Parameters whose summed gradients are not finite, as far as this rank holds them.
        """
        row = self._find_gradient_row(batch)
        is_cause = world.all_gather_rows(torch.tensor([int(row is not None)]), "not_finite").tolist()
        rank = self.gang.rank
        first = is_cause.index(1) if any(is_cause) else 0
        if rank != first:
            lost: Exception = world.PeerLostError(f"rank {first} has a gradient that is not finite")
            return lost
        source = f"from {self._list_rows(np.array([row]))}" if row is not None else "in the sum over all ranks"
        listed = ", ".join(parameters[:_MAX_LISTED]) or "a parameter of another rank"
        return TrainingError(
            f"train: the gradient of {listed} is not finite at step {self.step} on rank {rank}, {source}, although the"
            f" loss is; {self._remedy}"
        )

    @property
    def _remedy(self) -> str:
        clip = "" if self.spec.clip_norm else " or set train.clip_norm"
        return f"lower train.optimizer.learning_rate ({self.spec.optimizer.rate}){clip}, or correct the rows"

    def _list_rows(self, rows: np.ndarray) -> str:
        """Describe rows of the batch by their numbers in the split."""
        if self.row_ids is None:
            return f"{len(rows):,} of the {'row' if len(rows) == 1 else 'rows'} of train.refit"
        ids = self.row_ids()[rows].tolist()
        listed = ", ".join(str(number) for number in ids[:_MAX_LISTED])
        more = f" and {len(ids) - _MAX_LISTED:,} more" if len(ids) > _MAX_LISTED else ""
        return f"{'row' if len(ids) == 1 else 'rows'} {listed}{more} of the training split"

    def _find_cause(self, batch: Batch, rows: np.ndarray) -> str:
        """Describe the first value between the rows and the loss that is not finite."""
        for name, parameter in self.model.named_parameters():
            if not bool(parameter.isfinite().all()):
                return f"the weights {name} are no longer finite"
        selected = _select_rows(batch, torch.as_tensor(rows)).to(self.device)
        for name, values in selected.features.items():
            if values.is_floating_point() and not bool(values.isfinite().all()):
                return f"the features {name} are not finite"
        if selected.label.is_floating_point() and not bool(selected.label.isfinite().all()):
            return "the label is not finite"
        module = self._find_module(selected)
        return f"the output of {module} is not finite" if module else "the outputs are finite, but the loss is not"

    def _find_module(self, batch: Batch) -> str | None:
        """Return the first module whose output is not finite."""
        found: list[str] = []

        def watch_output(name: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(_: nn.Module, __: Any, output: Any) -> None:
                if (
                    isinstance(output, torch.Tensor)
                    and output.is_floating_point()
                    and not bool(output.isfinite().all())
                ):
                    found.append(name)

            return hook

        handles = [
            module.register_forward_hook(watch_output(name or "the network"))
            for name, module in self.model.named_modules()
        ]
        try:
            with torch.no_grad():
                self.model(**batch.features)
        finally:
            for handle in handles:
                handle.remove()
        return found[0] if found else None

    def _find_gradient_row(self, batch: Batch) -> int | None:
        """Find a row of this rank whose own gradient is not finite, by bisection; returns None if there is none."""
        start, stop = 0, batch.rows
        if not stop or self._is_gradient_finite(batch, start, stop):
            return None
        while stop - start > 1:
            middle = (start + stop) // 2
            if not self._is_gradient_finite(batch, start, middle):
                stop = middle
            elif not self._is_gradient_finite(batch, middle, stop):
                start = middle
            else:  # only both halves together overflow
                break
        return start

    def _is_gradient_finite(self, batch: Batch, start: int, stop: int) -> bool:
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        part = _select_rows(batch, torch.arange(start, stop)).to(self.device)
        loss = self.row_losses(part).sum() / batch.global_rows
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        return all(bool(gradient.isfinite().all()) for gradient in gradients if gradient is not None)


def _select_rows(batch: Batch, rows: torch.Tensor) -> Batch:
    features = {name: tensor[rows] for name, tensor in batch.features.items()}
    return replace(batch, features=features, label=batch.label[rows], rows=len(rows))
