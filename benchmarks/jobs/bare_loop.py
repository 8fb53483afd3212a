"""Hand-written Horovod loop that the start benchmark runs under `horovodrun`.

It reads a serialized job (its only argument), makes one step and prints when the step was complete.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

FIRST_STEP = "first step at "


def main() -> None:
    """Make one step."""
    import horovod.torch as hvd
    import torch

    from farandole.loading import TrainingLoader
    from farandole.shards import Dataset
    from farandole.spec import Job
    from farandole.training.losses import loss_function
    from farandole.training.model_builder import build_model
    from farandole.training.optim.optimizer import build_optimizer, parameter_groups

    hvd.init()
    job = Job.model_validate(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    dataset = Dataset(job.data.output, job.data.shard_key)
    loader = TrainingLoader(
        dataset, global_batch_size=job.train.batch_rows, rank=hvd.rank(), size=hvd.size(), seed=job.train.seed
    )
    torch.manual_seed(job.train.seed)
    model = build_model(job, dataset.manifest.columns)
    loss_of = loss_function(job.train.loss, dataset.manifest.columns.target)
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    plain = build_optimizer(job.train.optimizer, parameter_groups(job.train.optimizer, model))
    optimizer = hvd.DistributedOptimizer(plain, model.named_parameters(), op=hvd.Sum)
    for batch in loader.epoch(0):
        loss = loss_of(model(**batch.features), batch.label).sum() / batch.global_rows
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        break
    if hvd.rank() == 0:
        print(f"{FIRST_STEP}{time.time()}", flush=True)


if __name__ == "__main__":
    main()
