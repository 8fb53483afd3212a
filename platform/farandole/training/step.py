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
from farandole.training.losses import RowLoss, check_outputs
from farandole.training.optim.ema import ExponentialMovingAverage
from farandole.training.optim.grad_sync import GradientSync
from farandole.training.optim.precision import LossScaler, autocast
from farandole.training.timing import TimeSplit
from farandole.training.world import World

_LEAST_NORM = 1e-6


@dataclass
class Stepper:
    """Computes, sums and applies the gradient of one global batch after another.

    Args:
        spec: How to train.
        model: The network.
        forward: The network, perhaps compiled.
        loss: The loss of each row.
        label: What is predicted.
        update: Sums gradients and moves the weights.
        scaler: For fp16.
        averaged: The average of the weights.
        gang: Which rank this is.
        device: Where the network computes.
        time_split: Where the time goes.
    """

    spec: Train
    model: nn.Module
    forward: Callable[..., torch.Tensor]
    loss: RowLoss
    label: LabelColumn
    update: GradientSync
    scaler: LossScaler | None
    averaged: ExponentialMovingAverage | None
    gang: World
    device: torch.device
    time_split: TimeSplit

    def take(self, batch: Batch, step: int, rate: float, row_ids: Callable[[], np.ndarray]) -> float:
        """One optimizer step; returns the sum of this rank's losses.

        Args:
            batch: This rank's part of the global batch.
            step: The number of the step, from 1.
            rate: The learning rate.
            row_ids: Tells the numbers of the batch's rows, if somebody has to know.

        Raises:
            TrainingFailed: A loss or a gradient is not finite.
            ModelError: The network returns something of a wrong shape.
        """
        self._seed(step)
        found = NonFiniteDiagnosis(self, step, row_ids)
        with self.time_split.spent_on("compute"):
            losses = self._backward(batch)
            total = float(losses.sum()) if len(losses) else 0.0
        if not math.isfinite(total):
            raise found.loss(batch, losses)
        with self.time_split.spent_on("all_reduce_wait"):
            self.update.wait()
            squares = self.update.squares()
        with self.time_split.spent_on("compute"):
            if math.isfinite(squares):
                self._move(math.sqrt(squares), rate)
            elif self.scaler is not None:
                self.scaler.overflowed(step)
            else:
                raise found.gradient(batch)
            self.update.forget()
        return total

    def losses(self, batch: Batch) -> torch.Tensor:
        """The loss of each row of a batch on the device."""
        with autocast(self.spec.precision, self.device):
            outputs = self.forward(**batch.features)
        check_outputs(outputs, batch.rows, self.label)
        return self.loss(outputs.float(), batch.label)

    def _backward(self, batch: Batch) -> torch.Tensor:
        """Compute the gradients, piece by piece; the last piece starts their sum. Returns the loss of each row."""
        scale = self.scaler.scale if self.scaler is not None else 1.0
        losses = [torch.empty(0)]
        pieces = list(_pieces(batch.to(self.device), self.spec.accumulate_steps))
        for number, piece in enumerate(pieces, start=1):
            if number == len(pieces):
                self.update.enable_sync()
            rows = self.losses(piece)
            torch.autograd.backward(rows.sum() * (scale / batch.global_rows))
            losses.append(rows.detach())
        return torch.cat(losses[1:] or losses)

    def _move(self, norm: float, rate: float) -> None:
        """Unscale and clip the gradient in one go, then move the weights."""
        factor = 1.0
        if self.scaler is not None:
            factor, norm = 1 / self.scaler.scale, norm / self.scaler.scale
            self.scaler.fitted()
        if self.spec.clip_norm is not None and norm > self.spec.clip_norm:
            factor *= self.spec.clip_norm / (norm + _LEAST_NORM)
        if factor != 1.0:
            self.update.scale(factor)
        self.update.step(rate)
        if self.averaged is not None:
            self.averaged.update()

    def _seed(self, step: int) -> None:
        """Dropout differs between ranks, and is the same whether or not the training was interrupted before this
        step."""
        seed = ((self.spec.seed * 1_000_003 + step) * 4_096 + self.gang.rank) % 2**63
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)


def _pieces(batch: Batch, count: int) -> Iterator[Batch]:
    """The rows of a batch in so many pieces; none is empty."""
    if count == 1:
        if batch.rows:
            yield batch
        return
    for number in range(count):
        start, stop = slice_bounds(number, count, batch.rows)
        if start < stop:
            features = {name: tensor[start:stop] for name, tensor in batch.features.items()}
            yield replace(batch, features=features, label=batch.label[start:stop], rows=stop - start)
