from __future__ import annotations

from typing import Any

import pytest

from farandole.training.checkpoint.identity import list_differences, summarize


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ({"a": 1}, {"a": 1}, []),
        (
            {"model": {"options": {"hidden": [128, 64]}}},
            {"model": {"options": {"hidden": [256]}}},
            ["model.options.hidden was [128, 64], now [256]"],
        ),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": None}}, ["a.c was not there, now null"]),
        ({"a": {"b": {}}}, {"a": {}}, ["a was not there, now {}", "a.b was {}, now not there"]),
        ({"a": "x" * 100}, {"a": "y"}, [f"a was {'x' * 60}…, now y"]),
        ("one", "another", ["it was one, now another"]),
        ({"a": True}, {"a": False}, ["a was true, now false"]),
    ],
)
def test_the_fields_that_differ_are_told(was: Any, now: Any, told: list[str]) -> None:
    assert list_differences(was, now) == told


def test_of_many_differences_the_first_are_listed() -> None:
    assert summarize(["a", "b"]) == "a; b"
    assert summarize(list("abcdefg")) == "a; b; c; d; e; and 2 more"
