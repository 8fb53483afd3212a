from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farandole.errors import SpecError
from farandole.spec import load_job, parse_job, with_overrides

Write = Callable[..., Path]

ANCHORS = """
name: small
data:
  sources: {trips: {path: trips.csv}}
  features:
    distance: &number {kind: numeric}
    delay: *number
  label: {column: late, kind: binary}
model: {builder: "network:build"}
"""


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("train.epochs=2", lambda job: job.train.epochs, 2),
        ("train.optimizer.learning_rate=1e-4", lambda job: job.train.optimizer.learning_rate, 1e-4),
        ("train.metrics=[accuracy, roc_auc]", lambda job: job.train.metrics, ("accuracy", "roc_auc")),
        ("data.split={train: 0.5, validation: 0.5, test: 0}", lambda job: job.data.split.validation, 0.5),
        ("tracking.register_as=null", lambda job: job.tracking.register_as, None),
        ("tracking.register_as=", lambda job: job.tracking.register_as, None),
        ("model.options.hidden.1=8", lambda job: job.network.options["hidden"], [32, 8]),
        ("model.options.new.deeper=a=b", lambda job: job.network.options["new"], {"deeper": "a=b"}),
        ("data.features.distance.log=true", lambda job: job.data.features["distance"].log, True),
        ("data.features.speed={kind: numeric}", lambda job: list(job.data.features)[-1], "speed"),
    ],
)
def test_override_sets_one_field(write: Write, override: str, read: Callable[[Any], Any], value: Any) -> None:
    assert read(load_job(write(), [override])) == value


def test_last_override_wins(write: Write) -> None:
    assert load_job(write(), ["train.epochs=2", "train.epochs=3"]).train.epochs == 3


def test_override_replaces_an_empty_part(write: Write, raw: dict[str, Any]) -> None:
    raw["train"] = None
    assert load_job(write(), ["train.epochs=2"]).train.epochs == 2


def test_override_does_not_modify_the_file(write: Write) -> None:
    path = write()
    before = path.read_bytes()
    load_job(path, ["train.epochs=2"])
    assert path.read_bytes() == before


def test_override_does_not_affect_other_uses_of_an_anchor(write: Write) -> None:
    features = load_job(write(ANCHORS), ["data.features.distance.log=true"]).data.features
    assert (features["distance"].log, features["delay"].log) == (True, False)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("train.epochs", "write FIELD.FIELD=VALUE"),
        ("=2", "write FIELD.FIELD=VALUE"),
        ("train..epochs=2", "write FIELD.FIELD=VALUE"),
        ("train.epochs=[1", "a bracket is not closed"),
        ("train.epochs={a: 1, a: 2}", "the key `a` is written twice"),
        ("model.options.hidden.2=8", "model.options.hidden is a list of 2; 2 is not an index of it"),
        ("model.options.hidden.first=8", "model.options.hidden is a list of 2; first is not an index of it"),
        ("model.options.hidden.-1=8", "-1 is not an index of it"),
        ("model.options.hidden.²=8", "² is not an index of it"),
        ("name.first=x", "name is the value 'small', which has no field first"),
    ],
)
def test_override_with_an_invalid_path_is_reported(write: Write, override: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_job(write(), [override])
    assert str(caught.value).startswith(f"--set {override}: ")
    assert problem in str(caught.value)


def test_override_below_an_empty_list_item_is_set(write: Write, raw: dict[str, Any]) -> None:
    raw["model"]["options"]["layers"] = [None]
    assert load_job(write(), ["model.options.layers.0.size=1"]).network.options["layers"] == [{"size": 1}]


def test_override_with_an_unknown_key_is_rejected_as_in_the_file(write: Write) -> None:
    with pytest.raises(SpecError, match=r"train\.epoch: unknown key; did you mean `epochs`\?"):
        load_job(write(), ["train.epoch=2"])


# Overrides of a job -----------------------------------------------------------------------------------------


RATE = "train.optimizer.learning_rate"


def test_overrides_set_fields_and_remove_the_sweep(raw: dict[str, Any]) -> None:
    choices = {"choices": [[64], [128, 64]]}
    raw["model"]["options"]["depth"] = 2
    space = {RATE: {"low": 1e-4, "high": 0.1, "log": True}, "model.options.hidden": choices}
    swept = parse_job({**raw, "sweep": {"space": space}})
    trial = with_overrides(swept, {RATE: 0.01, "model.options.hidden": [128, 64], "model.options.hidden.1": 32})
    assert trial.train.optimizer.learning_rate == 0.01
    assert trial.network.options == {"hidden": [128, 32], "depth": 2}
    assert trial.sweep is None
    assert trial.data == swept.data
    assert parse_job(swept.model_dump(mode="json")) == swept
