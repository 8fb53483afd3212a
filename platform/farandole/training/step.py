"""One optimizer step of one rank."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from farandole.loading import Batch
from farandole.loading.slicing import slice_bounds
from farandole.shards import LabelColumn
from farandole.spec import Train
from farandole.training.diagnosis import NonFiniteDiagnosis
from farandole.training.distillation import Distillation
from farandole.training.losses import RowLoss, check_outputs, row_losses
from farandole.training.optim.ema import ExponentialMovingAverage
from farandole.training.optim.grad_sync import GradientSync
from farandole.training.precision import LossScaler, autocast
from farandole.training.pruning import Pruning
from farandole.training.timing import TimeSplit
from farandole.training.world import World

_CLIP_EPSILON = 1e-6


@dataclass
class Stepper:
    """Computes, sums and applies the gradient of one global batch after another.

    Args:
        spec: How to train.
        model: The network.
        forward: The network, compiled if configured.
        loss: The loss of each row.
        label: The label's column.
        grad_sync: Sums gradients and updates the weights.
        scaler: Loss scaler for fp16.
        average: Moving average of the weights.
        distillation: The loss from a teacher, if there is one.
        pruning: The weights that stay 0, if there are any.
        gang: Position of this rank.
        device: Device of the network.
        time_split: Time by activity.
    """

    spec: Train
    model: nn.Module
    forward: Callable[..., torch.Tensor]
    loss: RowLoss
    label: LabelColumn
    grad_sync: GradientSync
    scaler: LossScaler | None
    average: ExponentialMovingAverage | None
    distillation: Distillation | None
    pruning: Pruning | None
    gang: World
    device: torch.device
    time_split: TimeSplit

    def take_step(self, batch: Batch, step: int, learning_rate: float, row_ids: Callable[[], np.ndarray]) -> float:
        """Take one optimizer step; returns the sum of this rank's losses.

        Args:
            batch: This rank's part of the global batch.
            step: Number of the step, from 1.
            learning_rate: The learning rate.
            row_ids: Returns the numbers of the batch's rows; called only for an error message.

        Raises:
            TrainingError: A loss or a gradient is not finite.
            ModelError: The network returns something of a wrong shape.
        """
        self._seed(step)
        with self.time_split.measure("compute"):
            losses = self._backward(batch)
            total = float(losses.sum()) if len(losses) else 0.0
        if not math.isfinite(total):
            raise self._diagnosis(step, row_ids).explain_loss(batch, losses)
        with self.time_split.measure("all_reduce_wait"):
            self.grad_sync.synchronize()
            squared_norm = self.grad_sync.squared_norm()
        with self.time_split.measure("compute"):
            if math.isfinite(squared_norm):
                self._update_weights(math.sqrt(squared_norm), learning_rate)
            elif self.scaler is not None:
                self.scaler.record_overflow(step)
            else:
                raise self._diagnosis(step, row_ids).explain_gradient(batch, self.grad_sync.nonfinite_params())
            self.grad_sync.zero_grad()
        return total

    def _row_losses(self, batch: Batch) -> torch.Tensor:
        """Compute the loss of each row of a batch on the device."""
        with autocast(self.spec.precision, self.device):
            outputs = self.forward(**batch.features)
        members = getattr(self.model, "members", None) if self.model.training else None
        check_outputs(outputs, batch.rows, self.label, members=members if isinstance(members, int) else None)
        losses = row_losses(self.loss, outputs.float(), batch.label)
        if self.distillation is None:
            return losses
        return self.distillation.mix(losses, outputs.float(), batch.features)

    def _backward(self, batch: Batch) -> torch.Tensor:
        """Compute the gradients in parts, of which the last starts their sum; returns the loss of each row."""
        scale = self.scaler.scale if self.scaler is not None else 1.0
        losses = [torch.empty(0)]
        parts = list(_split(batch.to(self.device), self.spec.accumulate_steps))
        for number, part in enumerate(parts, start=1):
            if number == len(parts):
                self.grad_sync.enable_sync()
            part_losses = self._row_losses(part)
            torch.autograd.backward(part_losses.sum() * (scale / batch.global_rows))
            losses.append(part_losses.detach())
        return torch.cat(losses[1:] or losses)

    def _update_weights(self, norm: float, learning_rate: float) -> None:
        """Unscale and clip the gradient in one pass, then update the weights."""
        factor = 1.0
        if self.scaler is not None:
            factor, norm = 1 / self.scaler.scale, norm / self.scaler.scale
            self.scaler.record_success()
        if self.spec.clip_norm is not None and norm > self.spec.clip_norm:
            factor *= self.spec.clip_norm / (norm + _CLIP_EPSILON)
        if factor != 1.0:
            self.grad_sync.scale(factor)
        self.grad_sync.step(learning_rate)
        if self.pruning is not None:
            self.pruning.apply()
        if self.average is not None:
            self.average.update()

    def _diagnosis(self, step: int, row_ids: Callable[[], np.ndarray]) -> NonFiniteDiagnosis:
        return NonFiniteDiagnosis(self.spec, self.model, self._row_losses, self.gang, self.device, step, row_ids)

    def _seed(self, step: int) -> None:
        """Seed dropout: different on each rank, and the same whether or not training was interrupted before."""
        seed = ((self.spec.seed * 1_000_003 + step) * 4_096 + self.gang.rank) % 2**63
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)


def _split(batch: Batch, count: int) -> Iterator[Batch]:
    """Split the rows of a batch into parts, leaving out empty ones."""
    if count == 1:
        if batch.rows:
            yield batch
        return
    for number in range(count):
        start, stop = slice_bounds(number, count, batch.rows)
        if start < stop:
            features = {name: tensor[start:stop] for name, tensor in batch.features.items()}
            yield replace(batch, features=features, label=batch.label[start:stop], rows=stop - start)
