"""Parts of a trainer, and settings that do not fit the dataset or the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farandole.errors import ModelError, SpecError
from farandole.shards import write_manifest
from farandole.spec import Job
from tests.support.made_data import Made
from tests.support.trainer_harness import Harness

MakeJob = Callable[..., Job]


@pytest.mark.parametrize(
    ("builder", "text"),
    [
        ("build_nothing", "returned str; return a torch.nn.Module"),
        ("build_fixed", "returned a module without trainable parameters"),
    ],
)
def test_invalid_network_is_rejected(harness: Harness, make_job: MakeJob, builder: str, text: str) -> None:
    with pytest.raises(ModelError, match=text):
        harness.trainer(make_job(model={"builder": f"network:{builder}", "options": {}}))


def test_augmentation_of_an_unknown_column_is_rejected(harness: Harness, make_job: MakeJob) -> None:
    job = make_job(train__augment={"dense": {"kind": "numbers", "noise": 1, "features": ["widht"]}})
    with pytest.raises(SpecError, match=r"train\.augment\.dense\.features: .* no column widht; did you mean width"):
        harness.trainer(job)


@pytest.mark.parametrize(
    ("changes", "field_path"),
    [
        ({"early_stopping": {"patience": 1}}, "early_stopping"),
        ({"schedule": {"name": "plateau"}}, "schedule: plateau"),
        ({"refit": {"epochs": 1}}, "refit"),
    ],
)
def test_early_stopping_plateau_and_refit_require_validation_rows(
    harness: Harness,
    make_job: MakeJob,
    made: Callable[..., Made],
    tmp_path: Path,
    changes: dict[str, Any],
    field_path: str,
) -> None:
    whole = made().manifest
    (tmp_path / "part").mkdir()
    for name in ("train", "validation", "test"):
        (tmp_path / "part" / name).symlink_to(made().path / name)
    write_manifest(tmp_path / "part", whole.model_copy(update={"splits": {**whole.splits, "validation": ()}}))
    job = make_job(data__output=str(tmp_path / "part"), train=changes)
    with pytest.raises(
        SpecError,
        match=rf"train\.{field_path}: the dataset has no validation rows to measure progress on; set data\.split",
    ):
        harness.trainer(job)


def test_setting_without_effect_causes_a_warning(harness: Harness, make_job: MakeJob) -> None:
    harness.trainer(make_job(train__channels_last=True))
    assert (
        "train.channels_last: the network has no image convolutions, so this setting has no effect"
        in harness.messages()
    )
