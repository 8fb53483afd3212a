"""Baseline: pandas, the same hand-written loop under Ray Train with two workers, MLflow.

Run as `python -m benchmarks.end_to_end.ray_train CASE FOLDER STORE`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.end_to_end.stopwatch import begin, finish

WORKERS = 2


def main() -> None:
    """Read, train under Ray, log and register."""
    begin("imports")
    import ray
    import ray.train
    import torch
    from ray.train.torch import TorchTrainer

    from benchmarks.end_to_end import handwritten
    from benchmarks.end_to_end.frames import read_table

    case, folder, store = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    begin("reading and features")
    table = read_table(case, folder)
    tensors = handwritten.to_tensors(table)
    begin("start of workers")
    ray.init(include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as results:
        trainer = TorchTrainer(
            run_rank,
            train_loop_config={"tensors": ray.put(tensors), "cardinalities": table.cardinalities},
            scaling_config=ray.train.ScalingConfig(num_workers=WORKERS, use_gpu=False),
            run_config=ray.train.RunConfig(name=case, storage_path=results),
        )
        result = trainer.fit()
        begin("evaluation")
        network = handwritten.Network(tensors["numbers"].shape[1], table.cardinalities)
        with result.checkpoint.as_directory() as kept:
            network.load_state_dict(torch.load(Path(kept, "weights.pt"), weights_only=True))
    metrics = handwritten.evaluate(network, tensors, "test")
    begin("logging and registering")
    handwritten.log_to_mlflow(store, f"{case}-ray", network, [], metrics)
    finish(metrics)


def run_rank(config: dict[str, Any]) -> None:
    """Train on one rank of Ray's workers."""
    import ray
    import ray.train
    import torch
    from ray.train.torch import prepare_model
    from torch import nn

    from benchmarks.end_to_end import handwritten

    context = ray.train.get_context()
    tensors = ray.get(config["tensors"])

    def on_epoch(network: nn.Module, steps: int, loss: float) -> None:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if context.get_world_rank() == 0:
                plain = getattr(network, "module", network)
                values = {"loss": loss, **handwritten.evaluate(plain, tensors, "validation")}
                torch.save(plain.state_dict(), Path(folder, "weights.pt"))
                checkpoint = ray.train.Checkpoint.from_directory(folder)
            else:
                values = {"loss": loss}
            ray.train.report(values, checkpoint=checkpoint)

    rank, size = context.get_world_rank(), context.get_world_size()
    handwritten.train(tensors, config["cardinalities"], rank, size, prepare_model, on_epoch)


if __name__ == "__main__":
    main()
