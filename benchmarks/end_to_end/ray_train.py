"""Baseline: pandas, the same hand-written loop under Ray Train with two workers, MLflow.

Run as `python -m benchmarks.end_to_end.ray_train CASE FOLDER STORE`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.end_to_end.baseline import read_arguments
from benchmarks.end_to_end.stopwatch import begin


def main() -> None:
    """Read, train under Ray, log and register."""
    begin("imports")
    import ray
    import ray.train
    import torch
    from ray.train.torch import TorchTrainer

    from benchmarks.end_to_end import handwritten
    from benchmarks.end_to_end.frames import read_table

    case, folder, store = read_arguments()
    begin("reading and features")
    table = read_table(case, folder)
    tensors = handwritten.to_tensors(table)
    begin("start of workers")
    ray.init(include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as results:
        trainer = TorchTrainer(
            run_rank,
            train_loop_config={"tensors": ray.put(tensors), "cardinalities": table.cardinalities},
            scaling_config=ray.train.ScalingConfig(num_workers=handwritten.WORKERS, use_gpu=False),
            run_config=ray.train.RunConfig(name=case, storage_path=results),
        )
        result = trainer.fit()
        begin("evaluation")
        network = handwritten.Network(tensors["numbers"].shape[1], table.cardinalities)
        with result.checkpoint.as_directory() as kept:
            network.load_state_dict(torch.load(Path(kept, "weights.pt"), weights_only=True))
    handwritten.conclude(store, f"{case}-ray", network, tensors, [])


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
            checkpoint, values = None, {"loss": loss}
            if context.get_world_rank() == 0:
                values = handwritten.validate(network, tensors, loss)
                torch.save(handwritten.plain(network).state_dict(), Path(folder, "weights.pt"))
                checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report(values, checkpoint=checkpoint)

    rank, size = context.get_world_rank(), context.get_world_size()
    handwritten.train(tensors, config["cardinalities"], rank, size, prepare_model, on_epoch)


if __name__ == "__main__":
    main()
