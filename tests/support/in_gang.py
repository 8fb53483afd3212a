"""Script of one rank for tests of several ranks, run by `farandole.launch.script`.

`in_gang.py REQUEST`: a JSON file with `jobs` (name to a serialized spec), `out` (a directory), and optionally `device`.
Each rank trains each job and writes `NAME-RANK.pt`. With `traps`, it also tries unusual gradients, and writes
`traps-RANK.pt`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from farandole.errors import FarandoleError
from farandole.events import Message
from farandole.shards import Dataset
from farandole.spec import Horovod, Train, parse_job
from farandole.training import world
from farandole.training.model_builder import build_model
from farandole.training.optim.grad_sync import ReplicatedGradientSync
from farandole.training.optim.zero import ShardedGradientSync
from farandole.training.trainer import Trainer

STEPS = 3
PLAIN: dict[str, Any] = {
    "epochs": 1,
    "global_batch_size": 64,
    "optimizer": {"name": "sgd", "learning_rate": 0.05, "weight_decay": 0.01, "options": {"momentum": 0.9}},
    "log_every_steps": 4,
    "seed": 3,
}
ADAMW = {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"accumulate_steps": 3},
    "clipped": {"clip_norm": 0.5},
    "averaged": {"ema": {"decay": 0.9}},
    "smoothed": {"label_smoothing": 0.1, "class_weights": "balanced"},
    # With seed 3 the input of a ReLU is so close to 0 that the rounding of bf16 decides whether its unit learns.
    "bf16": {"precision": "bf16", "seed": 1},
    "fp16": {"precision": "fp16", "clip_norm": 0.5},
    "compressed": {"compression": "fp16", "horovod": {"predivide_factor": 4}},
    "bucketed": {"horovod": {"num_groups": 4}},
    "sharded": {"shard_optimizer": True},
    "sharded_clipped": {"shard_optimizer": True, "clip_norm": 0.5, "accumulate_steps": 2},
    "adamw": {"optimizer": ADAMW},
    "adamw_sharded": {"optimizer": ADAMW, "shard_optimizer": True},
    "refit": {"refit": {"epochs": 2}},
    "refit_sharded": {"optimizer": ADAMW, "shard_optimizer": True, "refit": {"epochs": 2}},
    "profiled": {"profile": True},
    "stopped": {"epochs": 6, "early_stopping": {"patience": 1, "min_change": 0.5, "restore_best": True}},
}
"""Settings in `train` of each training."""


def train(
    spec: dict[str, Any],
    gang: world.World,
    scratch: Path,
    start: dict[str, Any] | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Train a job, optionally from a state; returns its results, or the error."""
    logged: dict[str, list[float]] = {}
    messages: list[str] = []

    def log(values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            logged.setdefault(name, []).append(value)

    job = parse_job(spec)
    dataset = Dataset(job.data.output)
    torch.manual_seed(job.train.seed)
    try:
        trainer = Trainer(
            job=job,
            dataset=dataset,
            model=build_model(job, dataset.manifest.columns),
            gang=gang,
            device=torch.device(device),
            directory=scratch / "checkpoints",
            identity="equal",
            on_event=lambda event: messages.append(event.text) if isinstance(event, Message) else None,
            profiles=scratch / "profile",
            log=log,
        )
        if start is not None:
            trainer.load_state_dict(start)
        result = trainer.fit()
    except (FarandoleError, world.PeerLostError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    state = trainer.state_dict()
    return {
        "weights": {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()},
        "state": state,
        "own_state_bytes": _own_bytes(trainer._grad_sync._optimizer),  # type: ignore[attr-defined]
        "steps": result.steps,
        "validation": result.validation,
        "logged": logged,
        "messages": messages,
        "times": [split.rounded() for split in result.time_by_rank],
    }


def _own_bytes(optimizer: torch.optim.Optimizer) -> int:
    tensors = [value for values in optimizer.state.values() for value in values.values() if value.ndim]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class UnusualNetwork(nn.Module):
    """Network with unusual gradients: strided, sparse, bfloat16, or missing on one rank or on all."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.table = nn.Embedding(6, 3, sparse=True)
        self.square = nn.Parameter(torch.randn(3, 3).t())
        self.rounded = nn.Parameter(torch.randn(3, dtype=torch.bfloat16))
        self.sometimes = nn.Parameter(torch.randn(3))
        self.never = nn.Parameter(torch.randn(3))

    def forward(self, ids: torch.Tensor, sometimes: bool) -> torch.Tensor:
        hidden = self.table(ids) @ self.square * self.rounded.float()
        total: torch.Tensor = (hidden * self.sometimes if sometimes else hidden).sum()
        return total


def train_unusual(gang: world.World, kind: Callable[..., Any], **horovod: Any) -> dict[str, torch.Tensor]:
    """Return the weights after some steps of plain SGD with a different batch on each rank."""
    model = UnusualNetwork()
    spec = Train.model_validate({"optimizer": {"name": "sgd", "learning_rate": 0.1}, "horovod": horovod})
    sync = kind(spec, model, gang)
    for step in range(STEPS):
        sync.enable_sync()
        model(embedding_ids(step, gang.rank), sometimes=gang.rank == 1).backward()
        sync.synchronize()
        sync.step(0.1)
        sync.zero_grad()
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def embedding_ids(step: int, rank: int) -> torch.Tensor:
    """Return the rows of the embedding that a rank uses in a step."""
    return torch.tensor([step, rank + 3])


def backward_twice(gang: world.World) -> str:
    """Compute a gradient twice after sync is enabled; returns the error."""
    model = nn.Linear(2, 1)
    sync = ReplicatedGradientSync(Train(), model, gang)
    sync.enable_sync()
    model(torch.ones(1, 2)).sum().backward()
    try:
        model(torch.ones(1, 2)).sum().backward()
    except AssertionError as error:
        sync.synchronize()
        return str(error)
    return "no error"


def request_adasum(gang: world.World) -> str:
    """Request an operation that this build does not have; returns the error."""
    try:
        world.check_horovod_build(Horovod(adasum=True), torch.device("cpu"))
    except FarandoleError as error:
        return str(error)
    return "no error"


def main() -> None:
    """Run one rank."""
    request = json.loads(Path(sys.argv[1]).read_text())
    out, device = Path(request["out"]), request.get("device", "cpu")
    with world.init() as gang:
        for name, spec in request["jobs"].items():
            torch.save(train(spec, gang, out / name, device=device), out / f"{name}-{gang.rank}.pt")
        if request.get("traps"):
            found = {
                "whole": train_unusual(gang, ReplicatedGradientSync),
                "grouped": train_unusual(gang, ReplicatedGradientSync, num_groups=1),
                "sharded": train_unusual(gang, ShardedGradientSync),
                "twice": backward_twice(gang),
                "adasum": request_adasum(gang),
                "sums": world.all_reduce_sum([1.0, gang.rank], "test.sums"),
            }
            torch.save(found, out / f"traps-{gang.rank}.pt")


if __name__ == "__main__":
    main()
