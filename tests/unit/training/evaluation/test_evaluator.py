"""Evaluation of a split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from farandole.errors import ModelError
from farandole.shards import Dataset, write_manifest
from farandole.spec import Job
from tests.support.made_data import Made
from tests.support.trainer_harness import Harness

MakeJob = Callable[..., Job]


def test_empty_split_is_not_evaluated(
    harness: Harness, make_job: MakeJob, made: Callable[..., Made], tmp_path: Path
) -> None:
    whole = made().manifest
    (tmp_path / "part").mkdir()
    for name in ("train", "validation", "test"):
        (tmp_path / "part" / name).symlink_to(made().path / name)
    write_manifest(tmp_path / "part", whole.model_copy(update={"splits": {**whole.splits, "validation": ()}}))
    trainer = harness.fit(make_job(data__output=str(tmp_path / "part"), train__epochs=1))
    assert trainer.validation == {}
    assert trainer.evaluate("validation") is None
    assert not any(name.startswith("validation.") for name in harness.logged)


def test_outputs_of_a_wrong_shape_are_reported_before_training(harness: Harness, make_job: MakeJob) -> None:
    job = make_job(model={"builder": "network:build_two_wide", "options": {"mode": "evaluation"}})
    with pytest.raises(ModelError, match=r"forward in evaluation mode returned torch\.float32 \[2, 2\]; return .*2, 1"):
        harness.trainer(job)


def test_outputs_that_change_their_shape_are_reported(harness: Harness, make_job: MakeJob) -> None:
    trainer = harness.trainer(make_job())
    trainer.model.forward = lambda **groups: next(iter(groups.values()))[:, :0]
    with pytest.raises(ModelError, match=r"forward in evaluation mode returned torch\.float32 \[150, 0\]"):
        trainer.evaluate("test")


def test_only_training_rows_are_augmented(harness: Harness, make_job: MakeJob, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    model = {"builder": "network:build_recording_rows", "options": {"marks": str(marks)}}
    augment = {"row": {"kind": "numbers", "dropout": 1.0}, "dense": {"kind": "numbers", "noise": 0.1}}
    trainer = harness.fit(make_job(model=model, train__epochs=1, train__augment=augment))
    assert set((marks / "rank-0").read_text().split()) == {"0.0"}
    result = trainer.evaluate("test")
    assert result is not None
    block = Dataset(trainer.job.data.output).split("test").block(0)
    trainer.model.eval()
    with torch.no_grad():
        groups = {name: torch.tensor(values) for name, values in block.items() if name != "label"}
        assert torch.allclose(trainer.model(**groups), result.outputs[: len(block["label"])])
    assert block["row"].any()
