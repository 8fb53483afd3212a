from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from farandole.errors import SpecError
from farandole.spec import (
    METRICS,
    Checkpoint,
    EarlyStopping,
    Ema,
    Job,
    Model,
    Optimizer,
    Resources,
    Schedule,
    Spec,
    Train,
    metric_direction,
    parse_job,
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
        (Train, {"keep": "first"}, "best"),
        (Train, {"baseline": "trees"}, "trivial"),
        (Train, {"checkpoint": {"keep": 0}}, "greater than or equal to 1"),
        (Resources, {"workers": 0}, "greater than or equal to 1"),
        (Resources, {"gpus": 2}, "less than or equal to 1"),
        (Resources, {"max_restarts": -1}, "greater than or equal to 0"),
    ],
)
def test_out_of_range_values_are_rejected(spec: type[Spec], fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec.model_validate(fields)
    assert problem in str(caught.value)


@pytest.mark.parametrize("builder", ["network:build", "farandole.models.mlp:build", "_a:_b"])
def test_builder_is_a_module_and_a_function(builder: str) -> None:
    assert Model(builder=builder).builder == builder


@pytest.mark.parametrize("builder", ["network", "network:", ":build", "a/b:c", "a:b.c", "1a:b", "a:b "])
def test_invalid_builder_is_rejected(builder: str) -> None:
    with pytest.raises(ValidationError, match="builder"):
        Model(builder=builder)


def test_each_kind_of_label_has_its_metrics() -> None:
    assert {kind: metrics[0] for kind, metrics in METRICS.items()} == {
        "binary": "roc_auc",
        "multiclass": "accuracy",
        "regression": "rmse",
    }


def test_learning_rate_scales_with_the_global_batch_only() -> None:
    scaled = Train(global_batch_size=1024, optimizer=Optimizer(learning_rate=0.1, base_batch_size=256))
    assert scaled.learning_rate == pytest.approx(0.4)
    assert Train(global_batch_size=1024, optimizer=Optimizer(learning_rate=0.1)).learning_rate == 0.1


@pytest.mark.parametrize(
    ("metric", "direction", "better"),
    [("roc_auc", None, "max"), ("rmse", None, "min"), ("rmse", "max", "max"), ("mine:score", "min", "min")],
)
def test_direction_follows_from_the_metric(metric: str, direction: str | None, better: str) -> None:
    assert metric_direction(metric, direction, "train.schedule") == better


def test_function_metric_requires_a_direction() -> None:
    with pytest.raises(ValueError, match=r"train\.schedule\.direction: is missing; write max if higher"):
        metric_direction("mine:score", None, "train.schedule")


DATA = {
    "sources": {"s": {"path": "s.csv"}},
    "features": {"a": {"kind": "numeric"}},
    "label": {"column": "y", "kind": "regression"},
}


def checkpoint_job(**checkpoint: Any) -> Job:
    return parse_job({"name": "j", "data": DATA, "train": {"checkpoint": checkpoint}}, origin="job.yaml")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"every_epochs": 0}, "every_epochs"),
        ({"every_steps": 0}, "every_steps"),
        ({"every_minutes": 0}, "every_minutes"),
        ({"keep": 0}, "keep"),
        ({"keep_best": -1}, "keep_best"),
        ({"best_metric": "rmse"}, "best_metric without effect: set keep_best"),
        ({"best_metric": "rmse", "best_is": "lowest"}, "best_metric and best_is without effect"),
        ({"directory": "package://x/y"}, "packages are read-only"),
        ({"directory": "s3://key:secret@bucket/x"}, "contains credentials"),
    ],
)
def test_invalid_checkpoint_settings_are_rejected(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Checkpoint.model_validate(fields)
    assert problem in str(caught.value)


def test_unmeasured_metric_is_rejected_with_a_suggestion() -> None:
    with pytest.raises(SpecError, match=r"train\.checkpoint\.best_metric: rsme is not measured; did you mean rmse\?"):
        checkpoint_job(keep_best=1, best_metric="rsme")
    assert checkpoint_job(keep_best=1, best_metric="r2").train.checkpoint.best_metric == "r2"


@pytest.mark.parametrize(
    ("metric", "best_is", "lowest"),
    [("rmse", "auto", True), ("roc_auc", "auto", False), ("rmse", "highest", False), ("mine", "lowest", True)],
)
def test_lowest_value_of_an_error_metric_is_the_best(metric: str, best_is: str, lowest: bool) -> None:
    assert Checkpoint.model_validate({"keep_best": 1, "best_is": best_is}).is_lower_better(metric) is lowest


def test_directory_can_be_a_relative_path_or_a_uri() -> None:
    assert str(checkpoint_job(directory="there").train.checkpoint.directory).endswith("/there")
    assert checkpoint_job(directory="s3://bucket/there").train.checkpoint.directory == "s3://bucket/there"


@pytest.mark.parametrize(("written", "meant"), [(False, "off"), (True, "auto"), ("off", "off"), ("trivial", "trivial")])
def test_baseline_may_be_what_yaml_makes_of_off(written: object, meant: str) -> None:
    assert Train.model_validate({"baseline": written}).baseline == meant
