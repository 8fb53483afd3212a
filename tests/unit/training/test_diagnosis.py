"""Diagnosis of losses and gradients that are not finite."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from farandole.errors import TrainingError
from farandole.shards import Dataset
from farandole.spec import Job
from tests.support.networks import STEEP_ABOVE
from tests.support.trainer_harness import Harness

MakeJob = Callable[..., Job]


def test_loss_that_is_nan_ends_training_with_its_rows(harness: Harness, make_job: MakeJob) -> None:
    job = make_job(model={"builder": "network:build_diverging", "options": {}})
    text = (
        r"train: the loss is nan at step 1 on rank 0, in rows (\d+, ){4}\d+ and 59 more of the training split: the"
        r" output of the network is not finite; lower .*\(0\.02\) or set"
    )
    with pytest.raises(TrainingError, match=text):
        harness.fit(job)


def test_weights_that_are_not_finite_are_named(harness: Harness, make_job: MakeJob) -> None:
    trainer = harness.trainer(make_job())
    name, parameter = list(trainer.model.named_parameters())[-1]
    parameter.data.fill_(float("inf"))
    with pytest.raises(TrainingError, match=rf"the weights {name} are no longer finite; lower"):
        trainer.fit()


def test_gradient_that_is_not_finite_is_reported_with_weights_and_row(harness: Harness, make_job: MakeJob) -> None:
    trainer = harness.trainer(make_job(model={"builder": "network:build_overflowing", "options": {}}))
    text = r"the gradient of .+ is not finite at step 1 on rank 0, from row \d+"
    with pytest.raises(TrainingError, match=text) as caught:
        trainer.fit()
    rows = trainer._row_ids(0, 0)
    number = int(str(caught.value).partition("from row ")[2].split()[0])
    assert number in rows
    reader = Dataset(trainer.job.data.output).split("train")
    values = [value for block in range(len(reader.block_rows)) for value in reader.block(block)["row"][:, 0].tolist()]
    assert values[number] > STEEP_ABOVE
    assert any(values[row] <= STEEP_ABOVE for row in rows)
