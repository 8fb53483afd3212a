"""Trainings that stop and go on. As a script it is one rank of a gang that makes several, one after the other:
`python stopping.py PLAN.json`, where each rank writes what it saw to `PLAN.json.RANK`."""

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


class Plain(Mlp):
    """A small network without chance, the same for any number of workers. It can do something in a step."""

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


class Drawing(Plain):
    """Draws from torch's and NumPy's generators, on each rank anew, and has running means and another buffer that
    follow the rows of a rank; the other one has a part in what it computes."""

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
    """One training of the plan; what this rank saw of it."""
    job = parse_job(plan["job"], origin="plan")
    dataset = Dataset(job.data.output)
    losses: dict[int, float] = {}
    torch.manual_seed(3)
    np.random.seed(3 + gang.rank)
    asked, step = training.get("ask", (None, None))

    def ask(now: int) -> None:
        if (gang.rank, now) == (asked, step):
            trainer.request_stop()

    def log(values: dict[str, float], step: int) -> None:
        if "train.loss" in values:
            losses[step] = values["train.loss"]

    network = {"plain": Plain, "drawing": Drawing}[plan["network"]](dataset, ask)
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
    """Be one rank."""
    path = Path(sys.argv[1])
    plan = json.loads(path.read_text())
    torch.set_num_threads(1)
    with world.init() as gang:
        seen = [_make(plan, training, gang) for training in plan["trainings"]]
        path.with_name(f"{path.name}.{gang.rank}").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
    os._exit(0)
