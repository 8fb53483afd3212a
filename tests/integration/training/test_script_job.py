"""Jobs that run a training script of the user: gang, restart from the checkpoint, MLflow run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from farandole import api
from farandole.cli.render import show_training
from farandole.errors import TrainingError
from farandole.spec import Job, parse_job
from tests.support.made_data import ROWS, Made

LOOP = """
import os
import sys
import horovod.torch as hvd
import mlflow
import torch
import torch.distributed as dist
import farandole

hvd.init()
dist.init_process_group("gloo")
total = torch.ones(1)
dist.all_reduce(total)
assert total.item() == dist.get_world_size() == hvd.size() == 2

torch.manual_seed(hvd.rank())
model = torch.nn.Linear(2, 1)
hvd.broadcast_parameters(model.state_dict(), root_rank=0)
start = 0
found = farandole.Checkpoint.load()
if found is not None:
    model.load_state_dict(found.state["model"])
    start = found.state["epoch"]
print("starts at epoch", start)
for epoch in range(start, 3):
    weights = model.weight.detach().clone()
    model.weight.data += 1.0
    farandole.report(epoch + 1, total=3, epoch=epoch + 1, epochs=3, loss=1.0 / (epoch + 1))
    farandole.Checkpoint.save({"model": model.state_dict(), "epoch": epoch + 1}, step=epoch + 1)
    if epoch == 1 and start == 0 and hvd.rank() == 1:
        os._exit(7)
if hvd.rank() == 0:
    mlflow.log_param("loop", sys.argv[1])
dist.destroy_process_group()
"""


def script_job(folder: Path, text: str, **fields: object) -> Job:
    (folder / "train.py").write_text(text)
    raw = {"name": "loop", "train": {"script": "train.py", "args": ["mine"]}, **fields}
    return parse_job(raw, folder=folder)


@pytest.mark.slow
def test_script_resumes_after_a_crash_and_records_in_the_run_of_its_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = script_job(tmp_path, LOOP, resources={"workers": 2, "max_restarts": 1}, tracking={"system_metrics": False})
    seen: list[str] = []
    result = api.run(job, lambda event: seen.append(str(event)))
    assert result.dataset is None
    training = result.trained.training
    assert (training.attempts, training.steps, training.workers) == (2, 3, 2)
    assert training.metrics["script"]["loss"] == pytest.approx(1 / 3)
    assert [line for line in seen if "starts at epoch" in line] == ["starts at epoch 0", "starts at epoch 2"]
    assert "epoch 3 of 3: loss 0.3333" in seen
    show_training(Path("job.yaml"), job, result.trained, as_json=False)
    assert ["loss", "0.3333"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/home/mlflow.db")
    run = mlflow.get_run(training.mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["loop"] == "mine"
    assert run.data.metrics["loss"] == pytest.approx(1 / 3)


READS_A_DATASET = """
import sys
import farandole
from farandole.training import world

dataset = farandole.Dataset(sys.argv[1])
loader = farandole.TrainingLoader(dataset, global_batch_size=100, rank=0, size=1)
farandole.report(1, rows=sum(batch.rows for batch in loader))
sys.exit(int(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("code", [0, 5])
def test_exit_code_of_a_script_decides_about_its_job(made: Callable[..., Made], tmp_path: Path, code: int) -> None:
    job = script_job(
        tmp_path,
        READS_A_DATASET,
        train={"script": "train.py", "args": [str(made().path), str(code)]},
        resources={"max_restarts": 0},
        tracking={"system_metrics": False},
    )
    if code:
        with pytest.raises(TrainingError, match=r"train\.script: train\.py ended with exit code 5"):
            api.run(job)
    else:
        assert api.run(job).trained.training.metrics == {"script": {"rows": ROWS["train"]}}
