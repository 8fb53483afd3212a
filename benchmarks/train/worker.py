"""One process of a measured training: `worker.py REQUEST`, where REQUEST is a JSON file.

All systems train the same network on the same batches in the same order. Steps are timed in windows of `WINDOW` steps,
so the time between two steps counts too.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.train.cases import TRAINING_CASES, TrainingCase
from farandole.events import ignore_event
from farandole.loading import Batch, TrainingLoader
from farandole.shards import Dataset
from farandole.spec import Job
from farandole.training.losses import loss_function
from farandole.training.model_builder import build_model
from farandole.training.optim.optimizer import parameter_groups

WINDOW = 10
WARM_UP_WINDOWS = 1


@dataclass
class Clock:
    """Clock of windows of steps."""

    walls: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)

    def tick(self) -> None:
        """Register the end of a window and the start of the next."""
        self.walls.append(time.perf_counter())
        self.cpus.append(time.process_time())

    def per_step_ms(self) -> tuple[list[float], list[float]]:
        """Return wall-clock and processor time of a step, for each window after the warm-up."""
        found = []
        for times in (self.walls, self.cpus):
            spans = [after - before for before, after in pairwise(times)]
            found.append([span / WINDOW * 1e3 for span in spans[WARM_UP_WINDOWS:]])
        return found[0], found[1]


@dataclass(frozen=True)
class Task:
    """Task of this process."""

    case: TrainingCase
    job: Job
    dataset: Dataset
    device: torch.device

    def model(self) -> nn.Module:
        """Return the network on the device, with the same initial weights in every process."""
        torch.manual_seed(self.job.train.seed)
        return build_model(self.job, self.dataset.manifest.columns).to(self.device)

    def batches(self, rank: int, size: int) -> list[Batch]:
        """Return all batches of a rank in memory, pinned if the device is a GPU."""
        loader = TrainingLoader(
            self.dataset,
            global_batch_size=self.case.batch_rows,
            rank=rank,
            size=size,
            seed=self.job.train.seed,
            read_ahead=0,
        )
        return [
            Batch(
                {name: self._copy(tensor) for name, tensor in batch.features.items()},
                self._copy(batch.label),
                batch.rows,
                batch.global_rows,
            )
            for batch in loader
        ]

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone() if self.device.type == "cpu" else tensor.pin_memory()

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return torch's AdamW with its defaults, as a script would."""
        spec = self.job.train.optimizer
        return torch.optim.AdamW(parameter_groups(spec, model), lr=spec.rate)


def by_farandole(task: Task, clock: Clock) -> float:
    """Train with Farandole's trainer on the dataset, and return the loss of the last window."""
    from farandole.training import world
    from farandole.training.trainer import Trainer

    losses: list[float] = []

    def log(values: dict[str, float], step: int) -> None:
        losses.append(values["train.loss"])
        clock.tick()

    with world.init() as gang:
        trainer = Trainer(
            job=task.job,
            dataset=task.dataset,
            model=task.model(),
            gang=gang,
            device=task.device,
            directory=Path(task.dataset.directory).parent / f"checkpoints-{os.getpid()}",
            identity="bench",
            on_event=ignore_event,
            log=log,
        )
        clock.tick()
        trainer.fit()
    return losses[-1]


def by_horovod(task: Task, clock: Clock) -> float:
    """Train as a script with Horovod does, on tensors in memory, and return the loss of the last window."""
    import horovod.torch as hvd

    hvd.init()
    model = task.model()
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    optimizer = hvd.DistributedOptimizer(task.optimizer(model), list(model.named_parameters()), op=hvd.Sum)
    batches = task.batches(hvd.rank(), hvd.size())
    sums = _steps(task, batches, model, optimizer, 1.0, clock)
    total = hvd.allreduce(torch.tensor(sums), op=hvd.Sum)
    hvd.shutdown()
    return float(total) / (WINDOW * task.case.batch_rows)


def by_ddp(task: Task, clock: Clock) -> float:
    """Train as a script with torch's DistributedDataParallel does, on tensors in memory; return the last loss."""
    import torch.distributed as dist

    dist.init_process_group("gloo" if task.device.type == "cpu" else "nccl")
    model = nn.parallel.DistributedDataParallel(task.model())
    batches = task.batches(dist.get_rank(), dist.get_world_size())
    # DDP averages the gradients over ranks; the factor gives all rows the same weight, as in the other systems.
    local_sum = _steps(task, batches, model, task.optimizer(model), float(dist.get_world_size()), clock)
    sums = torch.tensor(local_sum, device=task.device)
    dist.all_reduce(sums)
    dist.destroy_process_group()
    return float(sums) / (WINDOW * task.case.batch_rows)


def by_one_process(task: Task, clock: Clock) -> float:
    """Train with the same loop in one process, and return the loss of the last window."""
    model = task.model()
    sums = _steps(task, task.batches(0, 1), model, task.optimizer(model), 1.0, clock)
    return sums / (WINDOW * task.case.batch_rows)


def _steps(
    task: Task, batches: list[Batch], model: nn.Module, optimizer: torch.optim.Optimizer, factor: float, clock: Clock
) -> float:
    """Run the loop of all scripts, and return the sum of the losses of the last window."""
    loss_of = loss_function("auto", task.case.schema.target)
    sums = 0.0
    clock.tick()
    for number, host_batch in enumerate(batches, start=1):
        batch = host_batch.to(task.device)
        optimizer.zero_grad()
        loss = loss_of(model(**batch.features), batch.label).sum()
        torch.autograd.backward(loss * (factor / batch.global_rows))
        optimizer.step()
        sums += loss.item()
        if number % WINDOW == 0:
            clock.tick()
            if number < len(batches):
                sums = 0.0
    return sums


SYSTEMS: dict[str, Callable[[Task, Clock], float]] = {
    "farandole": by_farandole,
    "horovod": by_horovod,
    "ddp": by_ddp,
    "single": by_one_process,
}


def main() -> None:
    """Train, and write the measurements of this process."""
    request: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(request["threads"])
    case = TRAINING_CASES[request["case"]]
    directory = Path(request["dataset"])
    rank = os.environ.get("HOROVOD_RANK") or os.environ.get("RANK") or "0"
    device = torch.device("cuda", int(rank)) if request["gpus"] else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    task = Task(case, case.job(directory, WINDOW), Dataset(directory), device)
    clock = Clock()
    loss = SYSTEMS[request["system"]](task, clock)
    walls, cpus = clock.per_step_ms()
    found = {
        "step_ms": walls,
        "cpu_ms": cpus,
        "loss": loss,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }
    Path(request["out"], f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
