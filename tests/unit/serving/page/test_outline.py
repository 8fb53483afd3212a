"""Plain data becomes pairs, tables, lists and texts, whatever its shape."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farandole.serving.page.outline import MAX_ITEMS, format_number, outline


def test_metrics_by_split_become_a_table() -> None:
    table = outline({"test": {"roc_auc": 0.8, "loss": 1}, "validation": {"roc_auc": 0.7}})["table"]
    assert [head["text"] for head in table["heads"]] == ["", "roc auc", "loss"]
    assert [head["number"] for head in table["heads"]] == [False, True, True]
    assert [[cell["text"] for cell in row] for row in table["rows"]] == [
        ["test", "0.8", "1"],
        ["validation", "0.7", ""],
    ]


def test_nested_mappings_become_pairs() -> None:
    assert outline({"job_file": {"name": "a"}, "n": 12345}) == {
        "pairs": [("job file", {"pairs": [("name", {"text": "a"})]}), ("n", {"text": "12,345", "number": True})]
    }


def test_lists_of_scalars_are_one_text_and_others_are_entries() -> None:
    assert outline([1, 2.5, "a"]) == {"text": "1, 2.5, a"}
    assert outline([[1], [2]]) == {"entries": [{"text": "1"}, {"text": "2"}], "more": 0}


def test_long_lists_are_cut_off_and_counted() -> None:
    assert outline([{"a": 1}] * (MAX_ITEMS + 7))["table"]["more"] == 7
    assert len(outline(list(range(MAX_ITEMS + 7)))["entries"]) == MAX_ITEMS


def test_missing_values_and_booleans_are_words() -> None:
    words: list[tuple[Any, str]] = [(None, "not known"), (True, "yes"), (False, "no"), ("", ""), ({}, "{}"), ([], "[]")]
    assert [outline(value)["text"] for value, _ in words] == [text for _, text in words]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (12345, "12,345"),
        (0.25, "0.25"),
        (1.2e-9, "1.2e-09"),
        (12345.6, "12,346"),
        (math.inf, "inf"),
        (math.nan, "nan"),
        (1e300, "1e+300"),
    ],
)
def test_numbers_are_rounded_for_people(number: float, text: str) -> None:
    assert format_number(number) == text


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@given(_JSON)
def test_any_document_has_an_outline(value: Any) -> None:
    def check(part: dict[str, Any]) -> None:
        shapes = {"pairs", "table", "entries", "text"} & set(part)
        assert len(shapes) == 1
        for _, inner in part.get("pairs", ()):
            check(inner)
        for row in part.get("table", {"rows": ()})["rows"]:
            assert len(row) == len(part["table"]["heads"])
            for cell in row:
                check(cell)
        for inner in part.get("entries", ()):
            check(inner)
        assert isinstance(part.get("text", ""), str)

    check(outline(value))


def test_what_is_very_deep_is_shown_as_json() -> None:
    value: Any = "end"
    for _ in range(40):
        value = {"a": value}
    text = str(outline(value))
    assert '"a": {"a"' in text
    assert "end" in text
