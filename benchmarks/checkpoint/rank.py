"""One rank of the checkpoint benchmark: `rank.py REQUEST.json`."""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from farandole.events import ignore_event
from farandole.models.mlp import Mlp
from farandole.shards import Dataset
from farandole.spec import Job
from farandole.training import world
from farandole.training.checkpoint import CheckpointManager
from farandole.training.trainer import Trainer


class _Timed(Mlp):
    """Network that records when each step starts, and the processor time of this process until then."""

    def __init__(self, dataset: Dataset, hidden: int) -> None:
        super().__init__(
            dataset.manifest.columns, (hidden, hidden), dropout=0.0, embedding_dropout=0.0, max_embedding=4
        )
        self.started_s: list[float] = []
        self.processor_s: list[float] = []

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        self.started_s.append(time.perf_counter())
        self.processor_s.append(time.process_time())
        return super().forward(**groups)


class _Puts:
    """Recorder of checkpoints: their steps, and the time and processor time of the thread that wrote them."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.took_s: list[float] = []
        self.processor_s: list[float] = []

    def around(self, put: Callable[..., str]) -> Callable[..., str]:
        def timed(shelf: CheckpointManager, state: dict[str, Any], meta: dict[str, Any]) -> str:
            start, used = time.perf_counter(), time.thread_time()
            name = put(shelf, state, meta)
            self.steps.append(meta["step"])
            self.took_s.append(time.perf_counter() - start)
            self.processor_s.append(time.thread_time() - used)
            return name

        return timed


def main() -> None:
    """Run one rank."""
    path = Path(sys.argv[1])
    request = json.loads(path.read_text(encoding="utf-8"))
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    puts = _Puts()
    CheckpointManager.put = puts.around(CheckpointManager.put)  # type: ignore[method-assign]
    with world.init() as gang:
        dataset = Dataset(request["dataset"])
        network = _Timed(dataset, request["hidden"])
        trainer = Trainer(
            job=_job(request),
            dataset=dataset,
            model=network,
            gang=gang,
            device=torch.device("cpu"),
            directory=Path(request["scratch"]) / "checkpoints",
            identity="bench",
            on_event=ignore_event,
            log=lambda values, step: None,
        )
        trainer.fit()
    newest = max((Path(request["scratch"]) / "checkpoints").glob("step-*/state.pt"))
    seen = {
        "started_s": network.started_s,
        "processor_s": network.processor_s,
        "saved_steps": puts.steps,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "checkpoint_mb": round(newest.stat().st_size / 1e6, 1),
        "written_after_ms": round(1e3 * statistics.median(puts.took_s), 1) if puts.took_s else None,
        "writer_processor_ms": round(1e3 * statistics.median(puts.processor_s), 1) if puts.processor_s else None,
        "stalled_ms": round(1e3 * trainer.time_split.checkpoint_s / max(1, len(puts.steps)), 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    path.with_name(f"{path.name}.{gang.rank}").write_text(json.dumps(seen), encoding="utf-8")


def _job(request: dict[str, Any]) -> Job:
    return Job.model_validate(
        {
            "name": "bench",
            "data": {
                "sources": {"drawn": {"path": "drawn.csv"}},
                "features": {"x0": {"kind": "numeric"}},
                "label": {"column": "y", "kind": "binary"},
                "output": request["dataset"],
            },
            "train": {
                "epochs": 1,
                "global_batch_size": request["global_batch_size"],
                "optimizer": {"name": "adamw", "learning_rate": 0.001},
                "log_every_steps": 1_000_000,
                "checkpoint": {
                    "every_steps": 2 * request["every_steps"],
                    "asynchronous": request["asynchronous"],
                },
            },
            "resources": {"workers": request["workers"]},
        },
        context={"folder": request["scratch"]},
    )


if __name__ == "__main__":
    main()
    os._exit(0)
