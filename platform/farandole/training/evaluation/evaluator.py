"""A network on a whole split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from farandole.loading import EvaluationLoader
from farandole.shards import Dataset
from farandole.training import heartbeat, world
from farandole.training.optim.precision import autocast
from farandole.training.world import World


@dataclass(frozen=True)
class EvaluationResult:
    """A split as the model sees it, on every rank: outputs `[B, O]`, label `[B]`, and the metrics."""

    outputs: torch.Tensor
    label: torch.Tensor
    metrics: dict[str, float]


@dataclass(frozen=True)
class Evaluator:
    """Reads splits, each rank its part, and gathers what the network says of them.

    Args:
        dataset: The dataset.
        model: The network.
        gang: Which rank this is.
        device: Where the network computes.
        precision: What it computes in.
        measure: The metrics of outputs `[B, O]` and label `[B]` of a whole split.
    """

    dataset: Dataset
    model: nn.Module
    gang: World
    device: torch.device
    precision: str
    measure: Callable[[torch.Tensor, torch.Tensor], dict[str, float]]

    def evaluate(self, split: str) -> EvaluationResult | None:
        """The network on a split; None where the split is empty."""
        if not self.dataset.manifest.rows(split):
            return None
        label = self.dataset.manifest.columns.target
        outputs, labels = [], []
        self.model.eval()
        with torch.no_grad(), autocast(self.precision, self.device):
            for batch in EvaluationLoader(self.dataset, split, rank=self.gang.rank, size=self.gang.size):
                on_device = batch.to(self.device)
                outputs.append(self.model(**on_device.features).float().cpu())
                labels.append(batch.label)
                heartbeat.record_batch()
        empty = torch.empty((0, label.num_outputs))
        all_outputs = world.all_gather_rows(torch.cat([*outputs, empty]), f"{split}.outputs")
        # An empty label first, so that a rank without rows still has a tensor of the right type.
        empty_label = torch.empty(0, dtype=torch.float32 if label.kind == "regression" else torch.int32)
        all_labels = world.all_gather_rows(torch.cat([empty_label, *labels]), f"{split}.label")
        return EvaluationResult(all_outputs, all_labels, self.measure(all_outputs, all_labels))
