from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from farandole.spec import METRICS, Model, Optimizer, Resources, Schedule, Spec, Train


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
