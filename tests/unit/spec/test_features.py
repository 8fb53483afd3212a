from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from farandole.spec import Bucket, Categorical, Clip, Image, Label, Numeric, Spec, Tensor, Text, Time


@pytest.mark.parametrize(
    ("spec", "fields", "problem"),
    [
        (Clip, {}, "neither lower nor upper is set"),
        (Clip, {"lower": 2, "upper": 1}, "lower 2.0 is not below upper 1.0"),
        (Clip, {"lower": 1, "upper": 1}, "is not below"),
        (Clip, {"by": "quantile", "upper": 99}, "must be between 0 and 1"),
        (Clip, {"upper": float("inf")}, "finite"),
        (Numeric, {"kind": "numeric", "impute": float("nan")}, "finite"),
        (Numeric, {"kind": "numeric", "group": "a b"}, "group"),
        (Categorical, {"kind": "categorical", "encoding": "hash"}, "encoding hash needs `buckets`"),
        (Categorical, {"kind": "categorical", "buckets": 8}, "buckets has no effect on a vocabulary"),
        (
            Categorical,
            {"kind": "categorical", "encoding": "hash", "buckets": 8, "min_count": 2},
            "min_count and max_size have no effect on `encoding: hash`",
        ),
        (Categorical, {"kind": "categorical", "max_size": 0}, "greater than or equal to 1"),
        (Time, {"kind": "time", "parts": []}, "at least 1 item"),
        (Time, {"kind": "time", "parts": ["hour", "hour"]}, "a part is named twice"),
        (Categorical, {"kind": "categorical", "encoding": "onehot", "buckets": 8}, "buckets has no effect on a"),
        (Bucket, {"kind": "bucket", "quantiles": 5, "boundaries": [1]}, "quantiles has no effect where boundaries"),
        (Bucket, {"kind": "bucket", "boundaries": [1, 1]}, "boundaries [1.0, 1.0] are not ascending"),
        (Bucket, {"kind": "bucket", "boundaries": [2, 1]}, "are not ascending"),
        (Bucket, {"kind": "bucket", "boundaries": [float("inf")]}, "finite"),
        (Bucket, {"kind": "bucket", "quantiles": 1}, "greater than or equal to 2"),
        (Tensor, {"kind": "tensor", "shape": []}, "at least 1 item"),
        (Tensor, {"kind": "tensor", "shape": [2, 0]}, "greater than or equal to 1"),
        (Tensor, {"kind": "tensor", "shape": [10000, 10000]}, "100,000,000 values; at most 67,108,864"),
        (Tensor, {"kind": "tensor", "shape": [2], "dtype": "complex64"}, "dtype"),
        (Image, {"kind": "image"}, "size"),
        (Image, {"kind": "image", "size": [0, 3]}, "greater than or equal to 1"),
        (Image, {"kind": "image", "size": [3, 3], "max_pixels": 10**9}, "less than or equal to 89000000"),
        (Text, {"kind": "text"}, "length"),
        (Text, {"kind": "text", "length": 4, "mode": "pack", "truncate": "error"}, "truncate has no effect on"),
        (Text, {"kind": "text", "length": 4, "vocab_size": 100}, "vocab_size 100: bpe needs at least 259"),
        (Text, {"kind": "text", "length": 4, "special_tokens": ["a b"]}, "'a b' contains whitespace"),
        (Text, {"kind": "text", "length": 4, "special_tokens": ["a", "a"]}, "a token is named twice"),
        (Time, {"kind": "time", "parts": ["year"]}, "year has no cycle, so it cannot be cyclic"),
        (Time, {"kind": "time", "parts": ["days"], "encoding": "category"}, "days has no fixed set of values"),
        (Time, {"kind": "time", "parts": ["hour"], "scale": "none"}, "scale has no effect on `encoding: cyclic`"),
        (Label, {"column": "y", "kind": "multiclass", "positive": "a"}, "positive has no effect on a multiclass label"),
        (Label, {"column": "y", "kind": "regression", "positive": 1}, "positive has no effect on a regression label"),
        (Label, {"column": "y", "kind": "binary", "transform": "log"}, "transform: only for `kind: regression`"),
        (Label, {"column": "y", "kind": "multiclass", "scale": "none"}, "scale: only for `kind: regression`"),
    ],
)
def test_contradictory_declarations_are_rejected(spec: type[Spec], fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec.model_validate(fields)
    assert problem in str(caught.value)


def test_clip_can_have_one_bound() -> None:
    assert Clip(lower=0).upper is None
    assert Clip(by="quantile", upper=0.99).lower is None


@pytest.mark.parametrize("impute", ["median", "mean", -1.5, 0, None])
def test_impute_can_be_a_statistic_a_number_or_null(impute: Any) -> None:
    assert Numeric(kind="numeric", impute=impute).impute == impute


@pytest.mark.parametrize("positive", [True, 1, "yes"])
def test_positive_class_keeps_its_type(positive: Any) -> None:
    kept = Label(column="y", kind="binary", positive=positive).positive
    assert kept == positive
    assert type(kept) is type(positive)
