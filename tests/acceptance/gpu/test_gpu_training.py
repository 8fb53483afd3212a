"""Training on a GPU: the same jobs as on a CPU, with one rank, and with two ranks that share the GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import horovod.torch as hvd
import numpy as np
import pytest
import torch

from benchmarks.train.bench import TrainBench, bench_train
from farandole.errors import TrainingError, UnavailableError
from farandole.launch import train
from farandole.launch.script import run_script
from farandole.process.messages import WORKERS_VARIABLE
from farandole.spec import Job
from farandole.training import world
from tests.support.in_gang import PLAIN, VARIANTS
from tests.support.in_gang import train as train_in_gang
from tests.support.made_data import BATCH_ROWS, ROWS, Made
from tests.support.paths import SUPPORT

MakeJob = Callable[..., Job]
CUDA = "cuda:0"
STEPS = -(-ROWS["train"] // BATCH_ROWS)
MLP: dict[str, Any] = {"builder": "farandole.models.mlp:build", "options": {"hidden": [16, 8], "dropout": 0.0}}
GPU_VARIANTS = (
    "plain",
    "accumulated",
    "clipped",
    "averaged",
    "smoothed",
    "compressed",
    "adamw_sharded",
    "bf16",
    "fp16",
)
TOLERANCE = {"bf16": 0.1, "fp16": 0.02, "compressed": 0.02}
"""Tolerance of the weights against those of a CPU, for variants that round on purpose."""


def _spec(make_job: MakeJob, name: str) -> dict[str, Any]:
    return make_job(train={**PLAIN, "log_every_steps": 1, **VARIANTS[name]}, model=MLP).model_dump(mode="json")


@pytest.fixture(scope="module")
def one(module_home: Path) -> Iterator[world.World]:
    """Initialize a gang of one, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WORKERS_VARIABLE, "1")
        with world.init() as gang:
            yield gang


def _assert_close(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    for name, weights in expected["weights"].items():
        np.testing.assert_allclose(found["weights"][name].cpu(), weights, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("name", GPU_VARIANTS)
def test_gpu_learns_the_same_as_a_cpu(name: str, one: world.World, make_job: MakeJob, tmp_path: Path) -> None:
    spec = _spec(make_job, name)
    here, there = (train_in_gang(spec, one, tmp_path / device, device=device) for device in ("cpu", CUDA))
    assert "error" not in there, there["error"]
    assert all(tensor.is_cuda for tensor in there["weights"].values())
    _assert_close(there, here, TOLERANCE.get(name, 1e-3))
    assert there["steps"] == here["steps"] == STEPS
    np.testing.assert_allclose(there["logged"]["train.loss"], here["logged"]["train.loss"], atol=0.05)
    assert there["validation"]["roc_auc"] == pytest.approx(here["validation"]["roc_auc"], abs=0.02)


def test_gradient_that_is_nan_is_reported_with_row_and_parameter(
    one: world.World, make_job: MakeJob, tmp_path: Path
) -> None:
    job = make_job(model={"builder": "network:build_overflowing", "options": {}})
    found = train_in_gang(job.model_dump(mode="json"), one, tmp_path, device=CUDA)
    assert "is not finite at step 1 on rank 0, from row " in found["error"]


def test_collectives_run_on_the_gpu(one: world.World) -> None:
    numbers = torch.arange(10, dtype=torch.float32, device=CUDA)
    for dtype in (torch.float16, torch.float32, torch.float64):
        summed = world.start_all_reduce(numbers.to(dtype), f"sum.{dtype}", predivide=4).wait()
        assert summed.is_cuda
        assert torch.equal(summed, numbers.to(dtype))
    assert torch.equal(world.start_reduce_scatter(numbers, "scatter").wait(), numbers)
    for dtype in (torch.float32, torch.bfloat16, torch.bool):
        assert torch.equal(world.all_gather_rows(numbers.to(dtype), f"gather.{dtype}"), numbers.to(dtype))
    assert torch.equal(world.broadcast_tensor(numbers, "broadcast"), numbers)


@pytest.fixture(scope="module")
def sharing(make_module_job: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train with two ranks on one GPU, which NCCL does not support; returns the folder of results."""
    if hvd.nccl_built():
        pytest.skip("with NCCL two ranks cannot share a GPU")
    out = tmp_path_factory.mktemp("sharing")
    jobs = {name: _spec(make_module_job, name) for name in GPU_VARIANTS}
    request = out / "request.json"
    request.write_text(json.dumps({"jobs": jobs, "out": str(out), "device": CUDA}))
    script = SUPPORT / "in_gang.py"
    assert run_script(script, [str(request)], workers=2) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", GPU_VARIANTS)
def test_two_ranks_on_a_gpu_learn_the_same_as_one(
    name: str, sharing: Path, one: world.World, make_job: MakeJob, tmp_path: Path
) -> None:
    alone = train_in_gang(_spec(make_job, name), one, tmp_path, device=CUDA)
    ranks = [torch.load(sharing / f"{name}-{rank}.pt", weights_only=False) for rank in range(2)]
    for found in ranks:
        assert "error" not in found, found["error"]
        expected = {key: value.cpu() for key, value in alone["weights"].items()}
        _assert_close(found, {"weights": expected}, TOLERANCE.get(name, 1e-3))
    for key, weights in ranks[0]["weights"].items():
        assert torch.equal(weights, ranks[1]["weights"][key]), key


@pytest.mark.slow
def test_job_on_a_gpu_is_recorded_and_its_model_predicts_on_a_cpu(
    home: Path, make_job: MakeJob, made: Callable[..., Made]
) -> None:
    job = make_job(resources={"workers": 1, "gpus": 1, "cpus": 1}, train__profile=True, tracking={})
    done = train(job, register=True)
    assert done.training.metrics["test"]["roc_auc"] > 0.9
    (trace,) = home.glob("jobs/*/profile/*.json*")
    assert '"cat": "kernel"' in trace.read_text(), "the profile shows no kernel of the GPU"
    from mlflow import MlflowClient

    store = f"sqlite:///{home / 'mlflow.db'}"
    assert done.training.mlflow_run_id is not None
    metrics = MlflowClient(store).get_run(done.training.mlflow_run_id).data.metrics
    assert any("gpu" in name for name in metrics), sorted(metrics)
    rows = home / "rows.pickle"
    made().raw["test"].drop(columns="label").to_pickle(rows)
    code = (
        "import sys, pandas, mlflow, torch; assert not torch.cuda.is_available();"
        "print(len(mlflow.pyfunc.load_model(sys.argv[1]).predict(pandas.read_pickle(sys.argv[2]))))"
    )
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "MLFLOW_TRACKING_URI": store}
    said = subprocess.check_output([sys.executable, "-c", code, done.model_uri, str(rows)], env=variables, text=True)
    assert said.split()[-1] == str(ROWS["test"])


@pytest.mark.slow
def test_killed_worker_resumes_with_identical_weights(home: Path, make_job: MakeJob, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    resources = {"workers": 1, "gpus": 1, "cpus": 1, "max_restarts": 2}
    options = {"how": "kill", "rank": 0, "step": STEPS + 3, "marks": str(marks)}
    job = make_job(model={"builder": "network:build_failing", "options": options}, resources=resources)
    disturbed = train(job)
    assert list(marks.glob("failed-*")), "no worker was killed"
    undisturbed = train(job)  # the marker file of the failure exists
    assert disturbed.training.weights_digest == undisturbed.training.weights_digest


@pytest.mark.slow
def test_model_that_exceeds_gpu_memory_is_reported_with_a_remedy(home: Path, make_job: MakeJob) -> None:
    job = make_job(model={"builder": "network:build_huge", "options": {}}, resources={"workers": 1, "gpus": 1})
    with pytest.raises(TrainingError, match=r"ran out of memory; use a smaller batch or model"):
        train(job)


@pytest.mark.slow
def test_more_workers_than_gpus_are_rejected(home: Path, make_job: MakeJob) -> None:
    found = torch.cuda.device_count()
    job = make_job(resources={"workers": found + 1, "gpus": 1, "cpus": 1})
    with pytest.raises(UnavailableError, match=rf"resources\.gpus: .*finds {found} usable GPUs"):
        train(job)


@pytest.mark.slow
def test_all_systems_learn_the_same_on_a_gpu() -> None:
    document = bench_train(TrainBench(cases=["mnist_cnn"], workers=1, gpus=1, quick=True))
    losses = {result["system"]: result["loss"] for result in document["results"]}
    assert losses == dict.fromkeys(losses, pytest.approx(losses["single"], rel=0.02))
