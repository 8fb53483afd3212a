from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from farandole.spec import (
    Bucket,
    Categorical,
    Data,
    Feature,
    Image,
    Numeric,
    Range,
    Split,
    Tensor,
    Text,
    Time,
    Unique,
    parse_job,
)
from farandole.spec.data import calculated_columns

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
def test_contradictory_split_is_rejected(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Split.model_validate(fields)
    assert problem in str(caught.value)


def test_shares_can_miss_one_by_a_rounding_error() -> None:
    split = Split(train=0.7, validation=0.2, test=0.1)
    assert split.train + split.validation + split.test != 1
    assert Split(train=1, validation=0, test=0).train == 1


def test_several_sources_need_a_query(raw: dict[str, Any], problems: Problems) -> None:
    raw["data"]["sources"]["weather"] = {"path": "weather.parquet"}
    assert problems(raw) == ["job: data: 2 sources (trips, weather) need a `query` that joins them"]
    raw["data"]["query"] = "SELECT * FROM trips JOIN weather USING (day)"
    assert len(Data.model_validate(raw["data"]).sources) == 2


@pytest.mark.parametrize("part", ["sources", "features"])
def test_at_least_one_source_and_one_feature_are_required(raw: dict[str, Any], problems: Problems, part: str) -> None:
    raw["data"][part] = {}
    assert any(line.startswith(f"job: data.{part}: ") for line in problems(raw))


def test_group_cannot_mix_numbers_and_ids(raw: dict[str, Any], problems: Problems) -> None:
    raw["data"]["features"]["carrier"]["group"] = "dense"
    (line,) = problems(raw)
    assert "features.carrier: group dense holds numbers; a group holds either float32 numbers or int32 ids" in line


def test_tensor_cannot_share_its_group(raw: dict[str, Any], problems: Problems) -> None:
    raw["data"]["features"]["vector"] = {"kind": "tensor", "shape": [3], "group": "dense"}
    (line,) = problems(raw)
    assert "features.vector: group dense belongs to features." in line
    raw["data"]["features"] = {name: {"kind": "tensor", "shape": [3], "group": "same"} for name in ("one", "two")}
    (line,) = problems(raw)
    assert "features.two: group same belongs to features.one" in line


def test_packed_text_must_be_the_only_feature_without_a_label(raw: dict[str, Any], problems: Problems) -> None:
    packed = {"kind": "text", "length": 8, "mode": "pack"}
    raw["data"]["features"]["body"] = packed
    (line,) = problems(raw)
    assert "features.body: `mode: pack` joins rows, so it must be the only feature; remove " in line
    raw["data"]["features"] = {"body": packed}
    (line,) = problems(raw)
    assert "features.body: `mode: pack` joins rows, so a row has no label; remove the label" in line
    del raw["data"]["label"]
    assert Data.model_validate(raw["data"]).label is None


def test_group_cannot_be_named_label(raw: dict[str, Any], problems: Problems) -> None:
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
def test_each_kind_of_feature_has_its_default_group(feature: Feature, group: tuple[str, str]) -> None:
    assert feature.groups("x") == dict([group])


@pytest.mark.parametrize(
    ("memory", "good"), [("2g", True), ("512m", True), ("2", False), ("2G", False), ("2gb", False)]
)
def test_memory_is_an_integer_with_a_unit(raw: dict[str, Any], memory: str, good: bool) -> None:
    raw["data"]["memory"] = memory
    if good:
        assert Data.model_validate(raw["data"]).memory == memory
    else:
        with pytest.raises(ValidationError, match="memory"):
            Data.model_validate(raw["data"])


@pytest.mark.parametrize(
    ("expectation", "text"),
    [
        ({"kind": "range", "column": "a"}, "data.expect.0: neither min nor max is set; set one of them"),
        ({"kind": "rows"}, "data.expect.0: neither min nor max is set; set one of them"),
        ({"kind": "rows", "min": 5, "max": 4}, "data.expect.0: min 5 is above max 4"),
        ({"kind": "allowed", "column": "a", "values": []}, "data.expect.0.values: []: "),
        ({"kind": "unique", "columns": []}, "data.expect.0.columns: []: "),
        ({"kind": "nulls", "column": "a", "max_share": 1.0}, "data.expect.0.max_share: 1.0: "),
        ({"kind": "range", "colum": "a", "min": 0}, "data.expect.0.colum: unknown key; did you mean `column`?"),
        ({"kind": "pattern", "column": "a"}, "data.expect.0.regex: is missing; the job needs it"),
        ({"kind": "between"}, "data.expect.0: 'between' is not known; write `kind:` with one of range, allowed"),
        ({"kind": "rows", "min": 1, "on_failure": "shout"}, "data.expect.0.on_failure: 'shout': "),
    ],
)
def test_invalid_expectations_are_rejected(
    raw: dict[str, Any], problems: Problems, expectation: dict[str, Any], text: str
) -> None:
    raw["data"]["expect"] = [expectation]
    assert any(line.startswith(f"job: {text}") for line in problems(raw)), problems(raw)


def test_expectations_survive_a_round_trip(raw: dict[str, Any]) -> None:
    raw["data"]["expect"] = [
        {"kind": "range", "column": "a", "min": "2024-01-01", "max": 5},
        {"kind": "unique", "columns": ["a", "b"], "on_failure": "warn"},
    ]
    job = parse_job(raw)
    first, second = job.data.expect
    assert isinstance(first, Range)
    assert (first.min, first.max, first.on_failure) == ("2024-01-01", 5, "fail")
    assert isinstance(second, Unique)
    assert parse_job(job.model_dump(mode="json")).data == job.data


def test_options_without_a_transform_are_rejected(raw: dict[str, Any], problems: Problems) -> None:
    raw["data"]["transform_options"] = {"a": 1}
    assert problems(raw) == ["job: data: transform_options has no effect without `transform`; remove it"]


@pytest.mark.parametrize(
    ("query", "columns"),
    [
        ("SELECT close > open AS up FROM t", {"close", "open"}),
        ("SELECT t.`my price`/2, a<=b, c <> d, e = f, g <=> h FROM t", {"my price", "a", "b"}),
        ("SELECT max(a), greatest(b, c) FROM t WHERE d BETWEEN 1 AND 2 ORDER BY e, f", {"a", "b", "c", "d", "e", "f"}),
        ("SELECT zip, version FROM t WHERE zip = '00501' AND name = 'a > b' -- x > y", set()),
    ],
)
def test_columns_that_a_query_calculates_with_are_found(query: str, columns: set[str]) -> None:
    assert calculated_columns(query) == columns
