from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from farandole.spec import Range, Unique, parse_job

Problems = Callable[[dict[str, Any]], list[str]]


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
def test_what_cannot_be_expected_is_told(
    raw: dict[str, Any], problems: Problems, expectation: dict[str, Any], text: str
) -> None:
    raw["data"]["expect"] = [expectation]
    assert any(line.startswith(f"job: {text}") for line in problems(raw)), problems(raw)


def test_a_job_that_is_written_out_and_read_again_expects_the_same(raw: dict[str, Any]) -> None:
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


def test_options_without_a_transform_have_no_effect(raw: dict[str, Any], problems: Problems) -> None:
    raw["data"]["transform_options"] = {"a": 1}
    assert problems(raw) == ["job: data: transform_options has no effect without `transform`; remove it"]
