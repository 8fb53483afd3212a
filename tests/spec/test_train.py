from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from farandole.errors import SpecError
from farandole.spec import METRICS, Model, Optimizer, Resources, Schedule, Spec, Tracking, Train, parse_job


@pytest.mark.parametrize(
    "uri",
    ["postgresql://user:secret@host/db", "http://user:secret@host:5000", "https://:secret@host"],
)
def test_a_password_in_the_tracking_uri_is_refused(raw: dict[str, Any], uri: str) -> None:
    with pytest.raises(SpecError, match=r"tracking\.uri: .*a password does not belong in a job file"):
        parse_job({**raw, "tracking": {"uri": uri}})


def test_the_error_about_a_password_does_not_show_it(raw: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        parse_job({**raw, "tracking": {"uri": "postgresql://user:s3cr3t@host/db"}})
    assert "s3cr3t" not in str(caught.value)


def test_a_password_that_a_variable_brings_is_refused_too(raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKING", "http://user:s3cr3t@host")
    with pytest.raises(SpecError, match="a password does not belong"):
        parse_job({**raw, "tracking": {"uri": "${TRACKING}"}})


@pytest.mark.parametrize("uri", ["http://host:5000", "postgresql://user@host/db", "sqlite:////tmp/a.db"])
def test_a_tracking_uri_without_password_stays_as_it_is(uri: str) -> None:
    assert Tracking(uri=uri).uri == uri


@pytest.mark.parametrize("name", ["a/b", "a:b"])
def test_a_registered_models_name_has_no_slash_and_no_colon(name: str) -> None:
    with pytest.raises(ValidationError, match="has no `/` and no `:`"):
        Tracking(register_as=name)


@pytest.mark.parametrize(
    ("spec", "fields", "problem"),
    [
        (Schedule, {"final": 0.1}, "final has no effect on a constant schedule"),
        (Schedule, {"warmup": 1}, "less than 1"),
        (Schedule, {"name": "cosine", "final": 1.5}, "less than or equal to 1"),
        (Optimizer, {"learning_rate": 0}, "greater than 0"),
        (Optimizer, {"weight_decay": -1}, "greater than or equal to 0"),
        (Optimizer, {"name": "lion"}, "adamw"),
        (Train, {"clip_norm": 0}, "greater than 0"),
        (Train, {"global_batch_size": 0}, "greater than or equal to 1"),
        (Train, {"tail": "pad"}, "weight"),
        (Train, {"checkpoint": {"keep": 0}}, "greater than or equal to 1"),
        (Resources, {"workers": 0}, "greater than or equal to 1"),
        (Resources, {"gpus": 2}, "less than or equal to 1"),
        (Resources, {"max_restarts": -1}, "greater than or equal to 0"),
    ],
)
def test_a_number_out_of_its_bounds_is_refused(spec: type[Spec], fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec.model_validate(fields)
    assert problem in str(caught.value)


@pytest.mark.parametrize("builder", ["network:build", "farandole.models.mlp:build", "_a:_b"])
def test_a_builder_is_a_module_and_a_function(builder: str) -> None:
    assert Model(builder=builder).builder == builder


@pytest.mark.parametrize("builder", ["network", "network:", ":build", "a/b:c", "a:b.c", "1a:b", "a:b "])
def test_anything_else_is_no_builder(builder: str) -> None:
    with pytest.raises(ValidationError, match="builder"):
        Model(builder=builder)


def test_each_kind_of_label_has_its_metrics() -> None:
    assert {kind: metrics[0] for kind, metrics in METRICS.items()} == {
        "binary": "roc_auc",
        "multiclass": "accuracy",
        "regression": "rmse",
    }


@pytest.mark.parametrize("uri", ["postgresql://h/db?user=u&password=s3cr3t", "postgresql://h/db?sslpassword=s3cr3t"])
def test_a_password_among_the_options_of_a_uri_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(ValidationError, match="a password does not belong in a job file") as caught:
        Tracking.model_validate({"uri": uri})
    assert "s3cr3t" not in str(caught.value)
