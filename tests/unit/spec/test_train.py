from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from farandole.spec import (
    METRICS,
    EarlyStopping,
    Ema,
    Model,
    Optimizer,
    Resources,
    Schedule,
    Spec,
    Train,
    metric_direction,
)


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
        (Train, {"optimizer": {"base_batch_size": 0}}, "greater than or equal to 1"),
        (Schedule, {"name": "cosine", "patience": 2}, "patience: only for `name: plateau`"),
        (Schedule, {"name": "plateau", "factor": 1}, "less than 1"),
        (EarlyStopping, {"patience": 0}, "greater than or equal to 1"),
        (Ema, {"decay": 1}, "less than 1"),
        (Train, {"precision": "fp8"}, "fp16"),
        (Train, {"label_smoothing": 1}, "less than 1"),
        (Train, {"class_weights": {"a": 0}}, "greater than 0"),
        (Train, {"loss": "hinge"}, "hinge is not known; use auto, binary_cross_entropy"),
        (Train, {"metrics": ["f1"]}, "f1 is not known; use roc_auc"),
        (Train, {"accumulate_steps": 65, "global_batch_size": 64}, "leave pieces without a row; use at most 64"),
        (Train, {"loss": "mine:loss", "label_smoothing": 0.1}, "have no effect on mine:loss"),
        (Train, {"shard_optimizer": True, "optimizer": {"name": "adafactor"}}, "cannot be sharded"),
        (Train, {"shard_optimizer": True, "horovod": {"adasum": True}}, "needs sums"),
        (Train, {"horovod": {"predivide_factor": 2}}, "no effect without `compression: fp16`"),
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


def test_the_learning_rate_grows_with_the_global_batch_alone() -> None:
    scaled = Train(global_batch_size=1024, optimizer=Optimizer(learning_rate=0.1, base_batch_size=256))
    assert scaled.learning_rate == pytest.approx(0.4)
    assert Train(global_batch_size=1024, optimizer=Optimizer(learning_rate=0.1)).learning_rate == 0.1


@pytest.mark.parametrize(
    ("metric", "direction", "better"),
    [("roc_auc", None, "max"), ("rmse", None, "min"), ("rmse", "max", "max"), ("mine:score", "min", "min")],
)
def test_what_is_better_follows_from_the_metric(metric: str, direction: str | None, better: str) -> None:
    assert metric_direction(metric, direction, "train.schedule") == better


def test_nobody_knows_what_is_better_of_a_function() -> None:
    with pytest.raises(ValueError, match=r"train\.schedule\.direction: is missing; write max if higher"):
        metric_direction("mine:score", None, "train.schedule")
