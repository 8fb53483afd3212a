"""Evaluation of a network on a whole split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from farandole.bundle.blocks import pad_tensors
from farandole.loading import EvaluationLoader
from farandole.shards import Dataset, LabelColumn
from farandole.training import heartbeat, world
from farandole.training.dataset_guard import explain_dataset_change
from farandole.training.losses import check_outputs
from farandole.training.precision import autocast
from farandole.training.world import World

_MODE = " in evaluation mode"
_TRIED_ROWS = 2


@dataclass(frozen=True)
class EvaluationResult:
    """Outputs `[B, O]`, label `[B]` and metrics of a whole split, the same on every rank.

    Those of a regression are float64 in the units of the label's column.
    """

    outputs: torch.Tensor
    label: torch.Tensor
    metrics: dict[str, float]


@dataclass(frozen=True)
class Evaluator:
    """Reads splits, each rank its part, and gathers the network's outputs.

    Args:
        dataset: The dataset.
        model: The network.
        gang: Position of this rank.
        device: Device of the network.
        precision: Precision of its computations.
        compute_metrics: Function from outputs `[B, O]` and label `[B]` of a whole split, in the label's own units, to
            its metrics.
    """

    dataset: Dataset
    model: nn.Module
    gang: World
    device: torch.device
    precision: str
    compute_metrics: Callable[[torch.Tensor, torch.Tensor], dict[str, float]]

    def evaluate(self, split: str) -> EvaluationResult | None:
        """Evaluate the network on a split; returns None if the split is empty.

        Raises:
            DatasetError: The split cannot be read, or the dataset was prepared again.
            ModelError: The network returns something of a wrong shape.
        """
        if not self.dataset.manifest.rows(split):
            return None
        label = self.dataset.manifest.columns.target
        outputs, labels = [], []
        self.model.eval()
        with torch.no_grad(), autocast(self.precision, self.device), explain_dataset_change(self.dataset):
            for batch in EvaluationLoader(self.dataset, split, rank=self.gang.rank, size=self.gang.size):
                on_device = batch.to(self.device)
                found = self._compute(on_device.features, batch.rows)
                check_outputs(found, batch.rows, label, mode=_MODE)
                outputs.append(found.float().cpu())
                labels.append(batch.label)
                heartbeat.record_batch()
        no_outputs = torch.empty((0, label.num_outputs))
        all_outputs = world.all_gather_rows(torch.cat([*outputs, no_outputs]), f"{split}.outputs")
        # The empty label comes first, so that a rank without rows still has a tensor of the right type.
        no_label = torch.empty(0, dtype=torch.float32 if label.kind == "regression" else torch.int32)
        all_labels = world.all_gather_rows(torch.cat([no_label, *labels]), f"{split}.label")
        if label.kind == "regression":
            all_outputs, all_labels = _in_units(label, all_outputs), _in_units(label, all_labels)
        return EvaluationResult(all_outputs, all_labels, self.compute_metrics(all_outputs, all_labels))

    def _compute(self, features: dict[str, torch.Tensor], rows: int) -> torch.Tensor:
        """Compute a batch, filled up so that a served model can repeat the result of each row to the bit."""
        padded = pad_tensors(features)
        outputs: torch.Tensor = self.model(**padded)
        is_padded = isinstance(outputs, torch.Tensor) and outputs.shape[:1] == next(iter(padded.values())).shape[:1]
        return outputs[:rows] if is_padded else outputs


def check_evaluation(dataset: Dataset, model: nn.Module, device: torch.device) -> None:
    """Try the network in evaluation mode on a few training rows.

    Otherwise outputs of a wrong shape would be found at the end of the first epoch, perhaps after hours.

    Raises:
        ModelError: The outputs have a wrong shape.
    """
    batch = next(iter(EvaluationLoader(dataset, "train", batch_rows=_TRIED_ROWS, read_ahead=0)), None)
    if batch is None:
        return
    random, was_training = torch.get_rng_state(), model.training
    try:
        model.eval()
        with torch.no_grad():
            outputs = model(**batch.to(device).features)
    except Exception:  # noqa: BLE001 - not about the shape: the first step or the evaluation reports it
        return
    finally:
        model.train(was_training)
        torch.set_rng_state(random)
    check_outputs(outputs, batch.rows, dataset.manifest.columns.target, mode=_MODE)


def _in_units(label: LabelColumn, values: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(label.in_units(values.numpy()))
