"""Knowledge distillation: the part of the loss that compares a network with its teacher (`train.distill`).

Shapes: B rows, K members of an ensemble, O outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from farandole.bundle.opened import Bundle
from farandole.bundle.program import PROGRAM, load_module
from farandole.shards import Group, LabelColumn, Schema
from farandole.training.losses import row_losses


class Teacher(nn.Module):
    """A trained network, which takes the features of a dataset and never changes.

    Args:
        bundle: The model.
        schema: The columns of the dataset, which may have more features than the model reads.
        device: Device of the features.
    """

    def __init__(self, bundle: Bundle, schema: Schema, device: torch.device) -> None:
        super().__init__()
        self._is_program = bundle.default_form == "program"
        with torch.random.fork_rng(devices=[]):  # the builder draws weights, which must not change the student's
            network = load_module(bundle.path / PROGRAM) if self._is_program else bundle.network()
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        # A program names the device on which it was written: the CPU.
        self._device = torch.device("cpu") if self._is_program else device
        self._network = network if self._is_program else network.to(device)
        self._columns = {group.name: _columns(group, schema.group(group.name)) for group in bundle.schema.groups}
        self._label, self._student_label = bundle.label, schema.target

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        """Map the groups of the dataset, `[B, …]`, to outputs `[B, O]`, a regression's scaled like its label."""
        read = {}
        for name, columns in self._columns.items():
            values = groups[name].to(self._device)
            read[name] = values if columns is None else values[:, columns]
        with torch.no_grad():
            outputs = self._network(read) if self._is_program else self._network(**read)
        return self._scale(outputs.float()).to(next(iter(groups.values())).device)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode; a program has no other."""
        return self

    def _scale(self, outputs: torch.Tensor) -> torch.Tensor:
        scale = self._student_label.scale
        if self._label.kind != "regression" or self._label.scale == scale:
            return outputs
        values = self._label.in_units(outputs.cpu().numpy())
        return torch.from_numpy((scale.apply(values) if scale is not None else values).astype(np.float32))


@dataclass(frozen=True)
class Distillation:
    """The loss of a network that has a teacher.

    Args:
        teacher: The teacher.
        label: The label's column.
        weight: The weight of the teacher.
        temperature: Divisor of the outputs of both.
    """

    teacher: Teacher
    label: LabelColumn
    weight: float
    temperature: float

    def mix(self, losses: torch.Tensor, outputs: torch.Tensor, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss of each row, `[B]`, from the label and from the teacher.

        Args:
            losses: The losses from the label, `[B]`.
            outputs: The network's outputs, `[B, O]` or `[B, K, O]`; each member learns from the teacher.
            features: The groups of the batch.
        """
        soft = row_losses(self._soft_losses, outputs, self.teacher(**features))
        return (1 - self.weight) * losses + self.weight * soft

    def _soft_losses(self, outputs: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
        """Return the distance of each row from the teacher's, both `[B, O]`."""
        if self.label.kind == "regression":
            return F.mse_loss(outputs, taught, reduction="none").mean(1)
        shares, target = (_log_shares(values / self.temperature) for values in (outputs, taught))
        # Gradients of the soft part shrink by the square of the temperature (Hinton et al. 2015, section 2).
        return self.temperature**2 * F.kl_div(shares, target, reduction="none", log_target=True).sum(1)


def _log_shares(outputs: torch.Tensor) -> torch.Tensor:
    """Return the logarithms of the classes' probabilities, `[B, C]`; a single output is the log-odds of the second."""
    if outputs.shape[1] > 1:
        return F.log_softmax(outputs, dim=1)
    return torch.cat([F.logsigmoid(-outputs), F.logsigmoid(outputs)], dim=1)


def _columns(wanted: Group, found: Group) -> list[int] | None:
    """Return the positions of a teacher's features in a group that may have more; None if both have the same."""
    if wanted.features == found.features:
        return None
    return [found.features.index(feature) for feature in wanted.features]
