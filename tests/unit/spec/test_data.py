from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from farandole.spec import Bucket, Categorical, Data, Feature, Image, Numeric, Split, Tensor, Text, Time

Problems = Callable[[dict[str, Any]], list[str]]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"train": 0.8, "validation": 0.3}, "the shares add up to 1.2; they must add up to 1"),
        ({"train": 0.5}, "the shares add up to 0.7"),
        ({"train": 0, "validation": 0.5, "test": 0.5}, "train is 0; a model needs rows to train on"),
        ({"train": 1.1, "validation": -0.1, "test": 0}, "less than or equal to 1"),
        ({"column": "part", "by": ["id"]}, "by have no effect where split.column decides; remove them"),
        ({"column": "part", "seed": 3, "train": 0.5}, "train, seed have no effect where split.column decides"),
    ],
)
def test_a_split_that_says_two_things_or_too_little_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Split.model_validate(fields)
    assert problem in str(caught.value)


def test_shares_may_miss_one_by_a_rounding_error() -> None:
    split = Split(train=0.7, validation=0.2, test=0.1)
    assert split.train + split.validation + split.test != 1
    assert Split(train=1, validation=0, test=0).train == 1


def test_several_sources_need_a_query(raw: dict[str, Any], problems: Problems) -> None:
    raw["data"]["sources"]["weather"] = {"path": "weather.parquet"}
    assert problems(raw) == ["job: data: 2 sources (trips, weather) need a `query` that joins them"]
    raw["data"]["query"] = "SELECT * FROM trips JOIN weather USING (day)"
    assert len(Data.model_validate(raw["data"]).sources) == 2


@pytest.mark.parametrize("part", ["sources", "features"])
def test_there_is_at_least_one_source_and_one_feature(raw: dict[str, Any], problems: Problems, part: str) -> None:
    raw["data"][part] = {}
    assert any(line.startswith(f"job: data.{part}: ") for line in problems(raw))


def test_a_group_holds_numbers_or_ids_but_not_both(raw: dict[str, Any], problems: Problems) -> None:
    raw["data"]["features"]["carrier"]["group"] = "dense"
    (line,) = problems(raw)
    assert "features.carrier: group dense holds numbers; a group holds either float32 numbers or int32 ids" in line


def test_a_tensor_shares_its_group_with_nobody(raw: dict[str, Any], problems: Problems) -> None:
    raw["data"]["features"]["vector"] = {"kind": "tensor", "shape": [3], "group": "dense"}
    (line,) = problems(raw)
    assert "features.vector: group dense belongs to features." in line
    raw["data"]["features"] = {name: {"kind": "tensor", "shape": [3], "group": "same"} for name in ("one", "two")}
    (line,) = problems(raw)
    assert "features.two: group same belongs to features.one" in line


def test_packed_texts_stand_alone_and_have_no_label(raw: dict[str, Any], problems: Problems) -> None:
    packed = {"kind": "text", "length": 8, "mode": "pack"}
    raw["data"]["features"]["body"] = packed
    (line,) = problems(raw)
    assert "features.body: `mode: pack` joins rows, so it must be the only feature; remove " in line
    raw["data"]["features"] = {"body": packed}
    (line,) = problems(raw)
    assert "features.body: `mode: pack` joins rows, so a row has no label; remove the label" in line
    del raw["data"]["label"]
    assert Data.model_validate(raw["data"]).label is None


def test_no_group_takes_the_name_of_the_label(raw: dict[str, Any], problems: Problems) -> None:
    raw["data"]["features"]["carrier"]["group"] = "label"
    (line,) = problems(raw)
    assert "a group cannot be named `label`" in line


@pytest.mark.parametrize(
    ("feature", "group"),
    [
        (Numeric(kind="numeric"), ("dense", "numbers")),
        (Numeric(kind="numeric", group="wide"), ("wide", "numbers")),
        (Categorical(kind="categorical"), ("categorical", "ids")),
        (Categorical(kind="categorical", encoding="onehot"), ("dense", "numbers")),
        (Bucket(kind="bucket"), ("categorical", "ids")),
        (Bucket(kind="bucket", encoding="onehot", group="wide"), ("wide", "numbers")),
        (Time(kind="time", parts=("year",), encoding="number"), ("dense", "numbers")),
        (Tensor(kind="tensor", shape=(2,)), ("x", "tensor")),
        (Tensor(kind="tensor", shape=(2,), group="wide"), ("wide", "tensor")),
        (Image(kind="image", size=(2, 2)), ("x", "image")),
        (Text(kind="text", length=2, mode="pack"), ("x", "tokens")),
        (Time(kind="time", parts=("hour",)), ("dense", "numbers")),
        (Time(kind="time", parts=("hour",), encoding="category"), ("categorical", "ids")),
        (Time(kind="time", parts=("hour",), encoding="category", group="clock"), ("clock", "ids")),
    ],
)
def test_each_kind_of_feature_has_its_group(feature: Feature, group: tuple[str, str]) -> None:
    assert feature.groups("x") == dict([group])


@pytest.mark.parametrize(
    ("memory", "good"), [("2g", True), ("512m", True), ("2", False), ("2G", False), ("2gb", False)]
)
def test_memory_is_a_whole_number_and_a_unit(raw: dict[str, Any], memory: str, good: bool) -> None:
    raw["data"]["memory"] = memory
    if good:
        assert Data.model_validate(raw["data"]).memory == memory
    else:
        with pytest.raises(ValidationError, match="memory"):
            Data.model_validate(raw["data"])
