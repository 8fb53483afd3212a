"""The network of `farandole.models.mlp` and a training loop, as a person writes them in plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.end_to_end.baseline import score
from benchmarks.end_to_end.frames import TableData
from benchmarks.end_to_end.stopwatch import begin, finish

WORKERS = 2
EPOCHS, BATCH_ROWS, LEARNING_RATE, WEIGHT_DECAY, WARMUP = 8, 4096, 0.01, 0.01, 0.15


class Network(nn.Module):
    """Embeddings and numbers, two hidden layers with layer norm and dropout."""

    def __init__(self, width: int, cardinalities: list[int], hidden: tuple[int, ...] = (128, 64)) -> None:
        super().__init__()
        sizes = [min(16, max(2, round(1.6 * count**0.56))) for count in cardinalities]
        self.tables = nn.ModuleList(nn.Embedding(count, size) for count, size in zip(cardinalities, sizes, strict=True))
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.05)  # type: ignore[arg-type]
        self.embedding_dropout = nn.Dropout(0.2)
        layers: list[nn.Module] = []
        inputs = width + sum(sizes)
        for size in hidden:
            layers += [nn.Linear(inputs, size), nn.LayerNorm(size), nn.ReLU(), nn.Dropout(0.1)]
            inputs = size
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, 1))

    def forward(self, numbers: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Return the logits, `[rows]`."""
        embedded = torch.cat([table(codes[:, index]) for index, table in enumerate(self.tables)], dim=1)
        logits: torch.Tensor = self.layers(torch.cat([numbers, self.embedding_dropout(embedded)], dim=1))
        return logits.squeeze(1)


def train(
    tensors: dict[str, torch.Tensor],
    cardinalities: list[int],
    rank: int,
    size: int,
    wrap: Callable[[nn.Module], nn.Module],
    on_epoch: Callable[[nn.Module, int, float], None],
) -> nn.Module:
    """Train a network on the training rows; each rank takes its slice of every global batch.

    Args:
        tensors: `numbers`, `codes` and `label` of all rows, and the indices `train`.
        cardinalities: Number of codes of each column.
        rank: This rank.
        size: Number of ranks.
        wrap: Wraps the network for several ranks.
        on_epoch: Called after each epoch with the network, the number of steps and the last loss.

    Returns:
        The wrapped network.
    """
    torch.manual_seed(1)
    network = wrap(Network(tensors["numbers"].shape[1], cardinalities))
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rows = len(tensors["train"])
    steps = EPOCHS * math.ceil(rows / BATCH_ROWS)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _factor(step, steps))
    loss_of = nn.BCEWithLogitsLoss()
    done = 0
    for epoch in range(EPOCHS):
        network.train()
        order = tensors["train"][torch.randperm(rows, generator=torch.Generator().manual_seed(epoch))]
        loss = torch.zeros(())
        for batch in torch.split(order, BATCH_ROWS):
            chosen = batch[rank::size]
            loss = loss_of(network(tensors["numbers"][chosen], tensors["codes"][chosen]), tensors["label"][chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            done += 1
        on_epoch(network, done, loss.item())
    return network


def to_tensors(table: TableData) -> dict[str, torch.Tensor]:
    """Return the rows and the indices of their parts as tensors."""
    parts = dict(zip(("train", "validation", "test"), table.parts, strict=True))
    named: dict[str, np.ndarray] = {"numbers": table.numbers, "codes": table.codes, "label": table.label, **parts}
    return {name: torch.from_numpy(values) for name, values in named.items()}


def evaluate(network: nn.Module, tensors: dict[str, torch.Tensor], part: str) -> dict[str, float]:
    """Return the metrics of a part of the rows."""
    chosen = tensors[part]
    network.eval()
    with torch.no_grad():
        probability = network(tensors["numbers"][chosen], tensors["codes"][chosen]).double().sigmoid().numpy()
    return score(tensors["label"][chosen].numpy(), probability)


def plain(network: nn.Module) -> nn.Module:
    """Return a network without what wraps it for several ranks."""
    inner = getattr(network, "module", network)
    assert isinstance(inner, nn.Module)
    return inner


def validate(network: nn.Module, tensors: dict[str, torch.Tensor], loss: float) -> dict[str, float]:
    """Return what an epoch logs: its last loss, and the metrics of the validation rows."""
    return {"loss": loss, **evaluate(plain(network), tensors, "validation")}


def conclude(store: str, name: str, network: nn.Module, tensors: dict[str, torch.Tensor], history: list[Any]) -> None:
    """Evaluate a network on the test rows, log it, register it, and announce its metrics."""
    metrics = evaluate(network, tensors, "test")
    begin("logging and registering")
    log_to_mlflow(store, name, network, history, metrics)
    finish(metrics)


def log_to_mlflow(store: str, name: str, network: nn.Module, history: list[Any], metrics: dict[str, float]) -> None:
    """Log params, metrics and the model to MLflow, and register a version of it."""
    import mlflow

    mlflow.set_tracking_uri(store)
    mlflow.set_experiment(name)
    with mlflow.start_run():
        mlflow.log_params({"epochs": EPOCHS, "batch_rows": BATCH_ROWS, "learning_rate": LEARNING_RATE})
        for step, values in history:
            mlflow.log_metrics({f"validation.{key}": value for key, value in values.items()}, step=step)
        mlflow.log_metrics({f"test.{key}": value for key, value in metrics.items()})
        # pt2, MLflow's default, exports models with a single input only.
        mlflow.pytorch.log_model(network, name="model", serialization_format="pickle", registered_model_name=name)


def _factor(step: int, steps: int) -> float:
    """Return the factor of the learning rate: linear warm-up, then half a cosine."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
