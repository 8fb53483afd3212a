from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

Problems = Callable[[dict[str, Any]], list[str]]


def put(raw: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Set one value of the job."""
    *parents, last = path.split(".")
    place = raw
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = value
    return raw


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("trian", {}, "trian: unknown key; did you mean `train`?"),
        ("train.epoch", 3, "train.epoch: unknown key; did you mean `epochs`?"),
        ("train.optimizer.lerning_rate", 1, "train.optimizer.lerning_rate: unknown key; did you mean `learning_rate`?"),
        ("data.split.validaton", 1, "data.split.validaton: unknown key; did you mean `validation`?"),
        ("data.features.distance.scal", "none", "data.features.distance.scal: unknown key; did you mean `scale`?"),
        ("data.features.start.part", [], "data.features.start.part: unknown key; did you mean `parts`?"),
        (
            "data.features.distance.clip",
            {"uper": 3},
            "data.features.distance.clip.uper: unknown key; did you mean `upper`?",
        ),
        ("data.sources.trips.seperator", ";", "data.sources.trips.seperator: unknown key; did you mean `separator`?"),
        (
            "train.schedule.zzz",
            1,
            "train.schedule.zzz: unknown key; known here: direction, factor, final, metric, name, patience, warmup",
        ),
    ],
)
def test_unknown_key_is_reported_with_the_nearest_known_one(
    raw: dict[str, Any], problems: Problems, path: str, value: Any, problem: str
) -> None:
    assert f"job: {problem}" in problems(put(raw, path, value))


def test_fields_that_only_programs_write_are_not_suggested(raw: dict[str, Any], problems: Problems) -> None:
    for path, internal in (
        ("data.columns", "auto_features"),
        ("zzz", "folder"),
        ("data.auto_feature", "auto_features"),
    ):
        (line,) = problems(put(copy.deepcopy(raw), path, 1))
        assert "unknown key" in line
        assert internal not in line.partition("unknown key")[2]


def test_key_of_another_kind_of_feature_is_not_suggested(raw: dict[str, Any], problems: Problems) -> None:
    (line,) = problems(put(raw, "data.features.carrier.log", True))
    assert line.startswith("job: data.features.carrier.log: unknown key; ")
    assert "min_count" in line
    assert "impute" not in line


@pytest.mark.parametrize("kind", ["numeric", "categorical", "time"])
def test_feature_named_like_a_kind_keeps_its_field_path(raw: dict[str, Any], problems: Problems, kind: str) -> None:
    raw["data"]["features"] = {kind: {"kind": kind, "parts": ["hour"]} if kind == "time" else {"kind": kind}}
    raw["data"]["features"][kind]["colum"] = "x"
    assert problems(raw) == [f"job: data.features.{kind}.colum: unknown key; did you mean `column`?"]


def test_several_problems_are_reported_together_without_duplicates(raw: dict[str, Any], problems: Problems) -> None:
    put(raw, "train.epochs", 0)
    put(raw, "train.tail", "repeat")
    put(raw, "resources.workers", "two")
    put(raw, "data.features.start.parts", ["hour", "decade"])
    del raw["model"]["builder"]
    found = problems(raw)
    assert len(found) == len(set(found)) == 5
    assert [line.split(": ")[1] for line in found] == [
        "data.features.start.parts.1",
        "model.builder",
        "train.epochs",
        "train.tail",
        "resources.workers",
    ]


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("train.epochs", 0, "train.epochs: 0: must be at least 1"),
        ("train.epochs", "many", "train.epochs: 'many': must be a whole number"),
        ("train.optimizer.learning_rate", float("nan"), "learning_rate: nan: must be a finite number"),
        (
            "data.features.distance.kind",
            "number",
            "data.features.distance: 'number' is not known; write `kind:` with one of numeric, categorical,",
        ),
        ("data.features.distance", {}, "data.features.distance: write `kind:` with one of numeric, categorical,"),
        ("data.features.distance", None, "data.features.distance: "),
        (
            "data.sources.trips.path",
            "trips.xls",
            "data.sources.trips: the file format is not known; write `format:` with one of csv, parquet, json, images,"
            " records",
        ),
        (
            "data.sources.trips.format",
            "xml",
            "data.sources.trips: the file format is not known; write `format:` with one of csv, parquet, json, images,"
            " records",
        ),
        (
            "data.sources.trips.columns",
            {"a": "varchar"},
            "data.sources.trips.columns.a: 'varchar': not a column type; use one of",
        ),
        ("data.features.a-b", {"kind": "numeric"}, "data.features: 'a-b' is not a name of letters, digits and `_`"),
        ("model.builder", "network", "model.builder: 'network': "),
        (
            "data.label.kind",
            "ordinal",
            "data.label.kind: 'ordinal': must be 'auto', 'binary', 'multiclass' or 'regression'",
        ),
    ],
)
def test_problem_names_field_value_and_rule(
    raw: dict[str, Any], problems: Problems, path: str, value: Any, problem: str
) -> None:
    found = problems(put(raw, path, value))
    assert any(problem in line for line in found), found


def test_field_path_hides_the_branches_of_a_union(raw: dict[str, Any], problems: Problems) -> None:
    found = problems(put(raw, "data.features.distance.impute", "mode"))
    assert [line.split(": ")[1] for line in found] == ["data.features.distance.impute"] * len(found)
    assert any("'median' or 'mean'" in line for line in found)
    assert any("number" in line for line in found)


@pytest.mark.parametrize("part", ["name", "data"])
def test_missing_part_is_named(raw: dict[str, Any], problems: Problems, part: str) -> None:
    del raw[part]
    assert problems(raw) == [f"job: {part}: is missing; the job needs it"]


def test_missing_field_of_a_union_is_named_without_its_branch(raw: dict[str, Any], problems: Problems) -> None:
    del raw["data"]["features"]["start"]["parts"]
    assert problems(raw) == ["job: data.features.start.parts: is missing; the job needs it"]


def test_long_value_is_shortened(raw: dict[str, Any], problems: Problems) -> None:
    (line,) = problems(put(raw, "train.epochs", "x" * 500))
    assert len(line) < 200
    assert "..." in line


@pytest.mark.parametrize("part", ["data", "train", "tracking", "resources", "model"])
def test_scalar_in_place_of_a_part_is_rejected(raw: dict[str, Any], problems: Problems, part: str) -> None:
    (line,) = problems({**raw, part: "x"})
    assert line.startswith(f"job: {part}: 'x': ")


def test_key_that_is_not_text_is_rejected(raw: dict[str, Any], problems: Problems) -> None:
    assert any("1" in line for line in problems({**raw, 1: 2}))  # type: ignore[dict-item]
