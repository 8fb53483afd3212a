"""Groups of features, and the names of their columns."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from farandole.spec.feature_groups import feature_groups
from farandole.spec.features import Feature


@pytest.mark.parametrize(
    ("features", "column"),
    [
        ({"x": {"kind": "numeric", "indicator": True}, "x_missing": {"kind": "numeric"}}, "x_missing"),
        ({"x_missing": {"kind": "numeric"}, "x": {"kind": "numeric", "indicator": True}}, "x_missing"),
        ({"x": {"kind": "categorical", "encoding": "onehot"}, "x_missing": {"kind": "numeric"}}, "x_missing"),
        ({"x": {"kind": "bucket", "encoding": "onehot"}, "x_missing": {"kind": "numeric"}}, "x_missing"),
        ({"t": {"kind": "time", "parts": ["hour"]}, "t_hour_sin": {"kind": "numeric"}}, "t_hour_sin"),
        (
            {"t": {"kind": "time", "parts": ["hour"], "encoding": "category"}, "t_hour": {"kind": "categorical"}},
            "t_hour",
        ),
        (
            {
                "t": {"kind": "time", "parts": ["day"], "encoding": "number"},
                "t_day": {"kind": "numeric", "indicator": True},
            },
            "t_day",
        ),
        (
            {
                "t": {"kind": "time", "parts": ["day_of_year"], "encoding": "number"},
                "t_day": {"kind": "time", "column": "t", "parts": ["days"], "encoding": "number"},
                "t_day_of": {"kind": "time", "column": "t", "parts": ["year"], "encoding": "number"},
            },
            "t_day_of_year",
        ),
    ],
)
def test_two_columns_of_a_group_with_the_same_name_are_refused(features: dict[str, Any], column: str) -> None:
    declared: Any = TypeAdapter(dict[str, Feature]).validate_python(features)
    with pytest.raises(ValueError, match=f"group .* would have two columns {column}: features"):
        feature_groups(declared)


def test_columns_of_different_groups_may_have_the_same_name() -> None:
    features = {
        "t": {"kind": "time", "parts": ["hour"], "encoding": "category"},
        "t_hour": {"kind": "numeric"},
        "x": {"kind": "numeric", "indicator": True, "group": "other"},
        "x_missing": {"kind": "numeric"},
    }
    declared: Any = TypeAdapter(dict[str, Feature]).validate_python(features)
    assert feature_groups(declared) == {"categorical": "ids", "dense": "numbers", "other": "numbers"}


def test_reserved_group_names_are_refused() -> None:
    declared: Any = TypeAdapter(dict[str, Feature]).validate_python(
        {"_farandole_order_1": {"kind": "tensor", "shape": [1]}}
    )
    with pytest.raises(ValueError, match="names of groups that begin with _farandole_ are reserved"):
        feature_groups(declared)
