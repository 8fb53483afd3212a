"""Trainings that stop and resume.

As a script, `python stopping.py PLAN.json`, one rank of a gang that runs several trainings one after the other. Each
rank writes its results to `PLAN.json.RANK`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from farandole.models.mlp import Mlp
from farandole.shards import Dataset
from farandole.spec import parse_job
from farandole.training import world
from farandole.training.checkpoint import weights_digest
from farandole.training.stop import Stopped
from farandole.training.trainer import Trainer


class PlainNetwork(Mlp):
    """Small deterministic network, the same for any number of workers, that calls a function in each step."""

    def __init__(self, dataset: Dataset, before: Callable[[int], None], dropout: float = 0.0) -> None:
        super().__init__(dataset.manifest.columns, (16,), dropout=dropout, embedding_dropout=0.0, max_embedding=4)
        self.steps, self._before = 0, before
        self.rows: list[list[float]] = []

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.steps += 1
            self.rows.append(groups["row"][:, 0].tolist())
            self._before(self.steps)
        return super().forward(**groups)


class RandomNetwork(PlainNetwork):
    """Network that uses random numbers of torch and NumPy, different on each rank.

    It also has running means and another buffer, which depend on the rows of a rank; the output depends on the latter.
    """

    level: torch.Tensor

    def __init__(self, dataset: Dataset, before: Callable[[int], None]) -> None:
        super().__init__(dataset, before, dropout=0.2)
        self.norm = nn.BatchNorm1d(1)
        self.register_buffer("level", torch.zeros(1))

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        if self.training:
            groups = {**groups, "dense": groups["dense"] * float(1 + 0.1 * np.random.randn())}
            self.level = 0.9 * self.level + 0.1 * groups["dense"].mean()
        outputs: torch.Tensor = self.norm(super().forward(**groups)) + self.level
        return outputs


def _make(plan: dict[str, Any], training: dict[str, Any], gang: world.World) -> dict[str, Any]:
    """Run one training of the plan; returns the results of this rank."""
    job = parse_job(plan["job"], origin="plan")
    dataset = Dataset(job.data.output)
    losses: dict[int, float] = {}
    torch.manual_seed(3)
    np.random.seed(3 + gang.rank)
    requested, step = training.get("request", (None, None))

    def request_stop(now: int) -> None:
        if (gang.rank, now) == (requested, step):
            trainer.request_stop()

    def log(values: dict[str, float], step: int) -> None:
        if "train.loss" in values:
            losses[step] = values["train.loss"]

    network = {"plain": PlainNetwork, "random": RandomNetwork}[plan["network"]](dataset, request_stop)
    trainer = Trainer(
        job=job,
        dataset=dataset,
        model=network,
        gang=gang,
        device=torch.device("cpu"),
        directory=Path(training["directory"]),
        identity="mine",
        on_event=lambda event: None,
        log=log,
    )
    stopped = None
    try:
        trainer.fit()
    except Stopped as caught:
        stopped = caught.step
    digest = weights_digest(trainer.model.state_dict())
    return {"stopped": stopped, "digest": digest, "losses": losses, "rows": network.rows}


def main() -> None:
    """Run one rank."""
    path = Path(sys.argv[1])
    plan = json.loads(path.read_text())
    torch.set_num_threads(1)
    with world.init() as gang:
        results = [_make(plan, training, gang) for training in plan["trainings"]]
        path.with_name(f"{path.name}.{gang.rank}").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
    os._exit(0)
