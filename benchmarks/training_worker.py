"""One process of a measured training: `training_worker.py REQUEST`, where REQUEST is a JSON file.

All systems train the same network on the same batches in the same order. Steps are timed in windows of `WINDOW` steps,
from outside: what a system does between two steps counts.
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

from benchmarks.training_cases import TRAINING_CASES, TrainingCase
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
    """The time of each window of steps."""

    walls: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)

    def look(self) -> None:
        """A window ends and the next begins."""
        self.walls.append(time.perf_counter())
        self.cpus.append(time.process_time())

    def per_step_ms(self) -> tuple[list[float], list[float]]:
        """Wall-clock and processor time of a step, in each window after the first ones, which warm up."""
        found = []
        for times in (self.walls, self.cpus):
            spans = [after - before for before, after in pairwise(times)]
            found.append([span / WINDOW * 1e3 for span in spans[WARM_UP_WINDOWS:]])
        return found[0], found[1]


@dataclass(frozen=True)
class Task:
    """What this process has to do."""

    case: TrainingCase
    job: Job
    dataset: Dataset
    device: torch.device

    def model(self) -> nn.Module:
        """The network on the device, with the same first weights in every process."""
        torch.manual_seed(self.job.train.seed)
        return build_model(self.job, self.dataset.manifest.columns).to(self.device)

    def batches(self, rank: int, size: int) -> list[Batch]:
        """All batches of a rank, in memory; pinned, where they go on to a GPU."""
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
                {name: self._kept(tensor) for name, tensor in batch.features.items()},
                self._kept(batch.label),
                batch.rows,
                batch.global_rows,
            )
            for batch in loader
        ]

    def _kept(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone() if self.device.type == "cpu" else tensor.pin_memory()

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """What a script would write: torch's AdamW with its defaults."""
        spec = self.job.train.optimizer
        return torch.optim.AdamW(parameter_groups(spec, model), lr=spec.learning_rate)


def by_farandole(task: Task, clock: Clock) -> float:
    """Our trainer, on the dataset."""
    from farandole.training import world
    from farandole.training.trainer import Trainer

    losses: list[float] = []

    def log(values: dict[str, float], step: int) -> None:
        losses.append(values["train.loss"])
        clock.look()

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
        clock.look()
        trainer.fit()
    return losses[-1]


def by_horovod(task: Task, clock: Clock) -> float:
    """What a script with Horovod looks like, on tensors in memory."""
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
    """What a script with torch's DistributedDataParallel looks like, on tensors in memory."""
    import torch.distributed as dist

    dist.init_process_group("gloo" if task.device.type == "cpu" else "nccl")
    model = nn.parallel.DistributedDataParallel(task.model())
    batches = task.batches(dist.get_rank(), dist.get_world_size())
    # It means the gradients over the ranks; as with the others, all rows shall weigh the same.
    own = _steps(task, batches, model, task.optimizer(model), float(dist.get_world_size()), clock)
    sums = torch.tensor(own, device=task.device)
    dist.all_reduce(sums)
    dist.destroy_process_group()
    return float(sums) / (WINDOW * task.case.batch_rows)


def alone(task: Task, clock: Clock) -> float:
    """The same loop in one process."""
    model = task.model()
    sums = _steps(task, task.batches(0, 1), model, task.optimizer(model), 1.0, clock)
    return sums / (WINDOW * task.case.batch_rows)


def _steps(
    task: Task, batches: list[Batch], model: nn.Module, optimizer: torch.optim.Optimizer, factor: float, clock: Clock
) -> float:
    """The loop that all scripts have; returns the sum of the losses of the last window."""
    loss_of = loss_function("auto", task.case.schema.target)
    sums = 0.0
    clock.look()
    for number, kept in enumerate(batches, start=1):
        batch = kept.to(task.device)
        optimizer.zero_grad()
        loss = loss_of(model(**batch.features), batch.label).sum()
        torch.autograd.backward(loss * (factor / batch.global_rows))
        optimizer.step()
        sums += loss.item()
        if number % WINDOW == 0:
            clock.look()
            if number < len(batches):
                sums = 0.0
    return sums


SYSTEMS: dict[str, Callable[[Task, Clock], float]] = {
    "farandole": by_farandole,
    "horovod": by_horovod,
    "ddp": by_ddp,
    "single": alone,
}


def main() -> None:
    """Train, and write the figures of this process."""
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
