"""Optimizer steps of a trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.train.cases import TRAINING_CASES
from farandole.errors import ModelError
from farandole.spec import Job
from tests.support.made_data import ROWS
from tests.support.trainer_harness import Harness

MakeJob = Callable[..., Job]


def test_outputs_of_a_wrong_shape_are_reported(harness: Harness, make_job: MakeJob) -> None:
    job = make_job(model={"builder": "network:build_two_wide", "options": {}})
    with pytest.raises(ModelError, match=r"forward returned torch\.float32 \[64, 2\]; return .* shape \[64, 1\]"):
        harness.fit(job)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, r"forward in evaluation mode returned torch\.float32 \[2, 3, 1\]; return .* shape \[2, 1\]"),
        ({"members": 3}, r"forward in evaluation mode returned torch\.float32 \[2, 3, 1\]"),
        ({"pools": True}, r"forward returned torch\.float32 \[64, 3, 1\]; return .* shape \[64, 1\]"),
        ({"pools": True, "members": 4}, r"forward returned torch\.float32 \[64, 3, 1\]"),
    ],
)
def test_axis_that_is_not_one_of_members_is_rejected_before_the_first_step(
    harness: Harness, make_job: MakeJob, options: dict[str, Any], problem: str
) -> None:
    job = make_job(model={"builder": "network:build_with_steps", "options": options})
    with pytest.raises(ModelError, match=problem):
        harness.fit(job)
    assert "train.loss" not in harness.logged


def test_ensemble_that_declares_its_members_is_trained(harness: Harness, make_job: MakeJob) -> None:
    options = {"pools": True, "members": 3}
    harness.fit(make_job(model={"builder": "network:build_with_steps", "options": options}, train__epochs=1))
    assert harness.result is not None
    assert harness.result.validation["roc_auc"] > 0.5


def test_clipped_gradient_limits_the_update(harness: Harness, make_job: MakeJob) -> None:
    sgd: dict[str, Any] = {"name": "sgd", "learning_rate": 1.0}
    job = make_job(train={"epochs": 1, "global_batch_size": ROWS["train"], "optimizer": sgd, "clip_norm": 0.001})
    before = {name: value.clone() for name, value in harness.trainer(job).model.state_dict().items()}
    after = harness.fit(job).model.state_dict()
    moved = torch.sqrt(sum(((after[name] - before[name]) ** 2).sum() for name in before))
    assert float(moved) == pytest.approx(0.001, rel=1e-3)


def test_channels_last_network_learns_the_same(harness: Harness, tmp_path: Path) -> None:
    case = TRAINING_CASES["mnist_cnn"]
    case.write(tmp_path / "images", 3)
    (tmp_path / "images" / "drawn.csv").write_text("x,y\n")
    job = case.job(tmp_path / "images", 1)
    plain = harness.fit(job).model.state_dict()
    harness.remove_checkpoints()
    train = job.train.model_copy(update={"channels_last": True})
    trainer = harness.fit(job.model_copy(update={"train": train}))
    weights = trainer.model.state_dict()
    kernels = [tensor for tensor in weights.values() if tensor.ndim == 4 and tensor.shape[1] > 1]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    torch.testing.assert_close(weights, plain, rtol=1e-3, atol=1e-4)
    assert harness.messages() == []
