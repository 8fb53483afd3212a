"""Baseline: pandas, a hand-written loop in two processes with torch's DistributedDataParallel (gloo), MLflow.

Run as `python -m benchmarks.end_to_end.ddp CASE FOLDER STORE`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.end_to_end.stopwatch import begin, finish

WORKERS = 2


def main() -> None:
    """Read, start the processes, and wait for them."""
    begin("imports")
    import torch.multiprocessing as mp

    from benchmarks.end_to_end.frames import read_table
    from benchmarks.end_to_end.handwritten import to_tensors

    case, folder, store = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    begin("reading and features")
    table = read_table(case, folder)
    tensors = to_tensors(table)
    begin("start of workers")
    with tempfile.TemporaryDirectory() as meeting:
        mp.spawn(run_rank, (f"file://{meeting}/store", case, store, tensors, table.cardinalities), nprocs=WORKERS)  # type: ignore[attr-defined,no-untyped-call]


def run_rank(rank: int, meeting: str, case: str, store: str, tensors: dict[str, Any], cardinalities: list[int]) -> None:
    """Train on one rank; rank 0 evaluates, logs and registers."""
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    from benchmarks.end_to_end import handwritten

    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // WORKERS))
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORKERS)
    history: list[tuple[int, dict[str, float]]] = []

    def on_epoch(network: nn.Module, steps: int, loss: float) -> None:
        if rank == 0:
            plain = network.module
            assert isinstance(plain, nn.Module)
            history.append((steps, {"loss": loss, **handwritten.evaluate(plain, tensors, "validation")}))

    if rank == 0:
        begin("training")
    trained = handwritten.train(tensors, cardinalities, rank, WORKERS, DistributedDataParallel, on_epoch)
    dist.destroy_process_group()
    if rank == 0:
        begin("evaluation")
        network = trained.module
        assert isinstance(network, nn.Module)
        metrics = handwritten.evaluate(network, tensors, "test")
        begin("logging and registering")
        handwritten.log_to_mlflow(store, f"{case}-ddp", network, history, metrics)
        finish(metrics)


if __name__ == "__main__":
    main()
