from __future__ import annotations

import datetime
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from farandole.errors import DataError
from farandole.preprocess.categorical import HashTransform, VocabularyTransform
from farandole.preprocess.transform import VALUES
from farandole.spec import Categorical


def vocabulary(counts: dict[str, int], **spec: Any) -> VocabularyTransform:
    """Return a vocabulary of counted values."""
    transform = VocabularyTransform("x", "raw", Categorical.model_validate({"kind": "categorical", **spec}))
    return transform.learn({VALUES: Counter(counts)})


def hashed(buckets: int, column: str = "raw") -> HashTransform:
    """Return a hash with this number of buckets."""
    return HashTransform("x", column, Categorical(kind="categorical", encoding="hash", buckets=buckets))


def ids(transform: VocabularyTransform | HashTransform, values: Any) -> list[int]:
    """Return the ids of values."""
    result = transform.apply(values if isinstance(values, pa.Array) else pa.array(values, pa.string()))
    assert result.dtype == np.int32
    assert result.shape == (len(values), 1)
    return [int(number) for number in result[:, 0]]


def test_vocabulary_is_sorted_by_count_and_then_by_value() -> None:
    transform = vocabulary({"b": 2, "z": 9, "a": 2, "c": 1, "B": 2})
    assert transform.vocabulary == ("z", "B", "a", "b", "c")
    assert ids(transform, ["z", "B", "a", "b", "c"]) == [2, 3, 4, 5, 6]
    assert transform.cardinalities == (7,)


def test_vocabulary_does_not_depend_on_the_order_of_counting() -> None:
    counts = [(f"v{number}", number % 3) for number in range(20)]
    assert vocabulary(dict(counts)) == vocabulary(dict(counts[::-1]))


def test_unknown_is_0_and_missing_is_1() -> None:
    assert ids(vocabulary({"a": 1}), ["a", "b", None, ""]) == [2, 0, 1, 0]


def test_empty_vocabulary_maps_everything_to_unknown() -> None:
    transform = vocabulary({})
    assert ids(transform, ["a", None]) == [0, 1]
    assert transform.cardinalities == (2,)
    assert transform.fitted


@pytest.mark.parametrize(
    ("spec", "kept"),
    [
        ({"min_count": 2}, ("a", "b")),
        ({"max_size": 1}, ("a",)),
        ({"min_count": 2, "max_size": 5}, ("a", "b")),
        ({"min_count": 9}, ()),
    ],
)
def test_rare_values_and_those_beyond_the_size_are_unknown(spec: dict[str, int], kept: tuple[str, ...]) -> None:
    transform = vocabulary({"c": 1, "a": 3, "b": 2}, **spec)
    assert transform.vocabulary == kept
    assert ids(transform, ["c"]) == [0]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (pa.array([12, None], pa.int64()), "12"),
        (pa.array([1.5, float("nan")], pa.float64()), "1.5"),
        (pa.array([True, None]), "true"),
        (pa.array([datetime.date(2013, 1, 31), None]), "2013-01-31"),
        (pa.array(["é\U0001f600", None]), "é\U0001f600"),
        (pa.array(["a", None]).dictionary_encode(), "a"),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)
def test_values_of_all_types_are_categories_by_their_text(values: pa.Array, text: str) -> None:
    assert ids(vocabulary({text: 1}), values) == [2, 1]
    assert ids(hashed(1000), values) == [*ids(hashed(1000), [text]), 1]


@pytest.mark.parametrize("transform", [vocabulary({"a": 1}), hashed(8)], ids=["vocabulary", "hash"])
@pytest.mark.parametrize(
    "values", [pa.array([[1]]), pa.array([b"\xff"]), pa.array([{"a": 1}])], ids=lambda v: str(v.type)
)
def test_lists_bytes_and_structs_are_rejected(transform: VocabularyTransform | HashTransform, values: pa.Array) -> None:
    with pytest.raises(DataError, match=r"column raw: .* cannot be a category"):
        transform.apply(values)


def test_hashes_never_change() -> None:
    """Compare with fixed hashes, on which existing datasets and models depend."""
    assert ids(hashed(1000), ["", "a", "AA", "JFK", "é", "12"]) == GOLDEN
    assert ids(hashed(1000, column="other"), ["a"]) != ids(hashed(1000), ["a"])


GOLDEN = [631, 447, 538, 141, 441, 435]


@given(
    st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]))), max_size=20), st.integers(1, 50)
)
@hypothesis_settings(max_examples=40, deadline=None)
def test_hash_is_xxh3_of_column_and_value(values: list[str | None], buckets: int) -> None:
    expected = [
        1 if value is None else 2 + xxhash.xxh3_64_intdigest(b"raw\0" + value.encode()) % buckets for value in values
    ]
    transform = hashed(buckets)
    assert ids(transform, values) == expected
    assert max(expected, default=0) < transform.cardinalities[0] == buckets + 2


@pytest.mark.parametrize("transform", [vocabulary({"a": 1, "é": 2}, min_count=1), hashed(8)])
def test_learned_values_survive_a_round_trip(transform: VocabularyTransform | HashTransform) -> None:
    assert type(transform).from_dict(transform.to_dict()) == transform


@pytest.mark.parametrize("transform", [vocabulary({"a": 1}), hashed(8)], ids=["vocabulary", "hash"])
def test_no_rows_give_no_rows(transform: VocabularyTransform | HashTransform) -> None:
    assert ids(transform, []) == []


@pytest.mark.parametrize("transform", [vocabulary({"a": 1}), hashed(8)], ids=["vocabulary", "hash"])
def test_slice_of_a_column_gives_the_ids_of_the_slice(transform: VocabularyTransform | HashTransform) -> None:
    values = pa.array(["a", None, "b", "a", "c"])
    assert ids(transform, values.slice(1, 3)) == ids(transform, values)[1:4]


def test_replacement_character_is_a_character_like_any_other() -> None:
    values = pa.array(["Bern", "Z\ufffdrich", None, "Z\ufffdrich"])
    found = VocabularyTransform("x", "city", Categorical(kind="categorical")).observe(values)
    assert [list(texts) for texts in found.values()] == [list(values)]


def test_onehot_has_a_named_column_for_each_value_and_for_missing_ones() -> None:
    transform = vocabulary({"b": 2, "a": 3}, encoding="onehot")
    assert transform.features == ("x=a", "x=b", "x_missing")
    assert transform.cardinalities == ()
    assert transform.group == "dense"
    result = transform.apply(pa.array(["a", "b", None, "other"]))
    assert result.dtype == np.float32
    assert result.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert VocabularyTransform.from_dict(transform.to_dict()) == transform


def test_too_many_values_for_columns_are_rejected() -> None:
    counts = {str(number): 1 for number in range(1001)}
    with pytest.raises(DataError, match=r"1,001 values would become as many columns.*at most 1,000; set max_size"):
        vocabulary(counts, encoding="onehot")
    assert len(vocabulary(counts, encoding="onehot", max_size=5).features) == 6
