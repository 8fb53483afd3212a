"""Baseline: pandas, a hand-written loop in two processes with torch's DistributedDataParallel (gloo), MLflow.

Run as `python -m benchmarks.end_to_end.ddp CASE FOLDER STORE`.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

from benchmarks.end_to_end.baseline import read_arguments
from benchmarks.end_to_end.stopwatch import begin


def main() -> None:
    """Read, start the processes, and wait for them."""
    begin("imports")
    import torch.multiprocessing as mp

    from benchmarks.end_to_end.frames import read_table
    from benchmarks.end_to_end.handwritten import WORKERS, to_tensors

    case, folder, store = read_arguments()
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

    workers = handwritten.WORKERS
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // workers))
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    history: list[tuple[int, dict[str, float]]] = []

    def on_epoch(network: nn.Module, steps: int, loss: float) -> None:
        if rank == 0:
            history.append((steps, handwritten.validate(network, tensors, loss)))

    if rank == 0:
        begin("training")
    trained = handwritten.train(tensors, cardinalities, rank, workers, DistributedDataParallel, on_epoch)
    dist.destroy_process_group()
    if rank == 0:
        begin("evaluation")
        handwritten.conclude(store, f"{case}-ddp", handwritten.plain(trained), tensors, history)


if __name__ == "__main__":
    main()
