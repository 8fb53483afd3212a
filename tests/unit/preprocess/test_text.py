from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from farandole.errors import DataError
from farandole.preprocess import Summary
from farandole.preprocess.text import CHARACTERS, WORDS, Packer, TextTransform
from farandole.preprocess.tokenizer import load
from farandole.shards import Group
from farandole.spec import Text

TEXTS = ["one two three", "two three", "three", "", None, "four three two one"]
"""The ids by descending frequency: three 3, two 4, one 5, four 6."""


def fitted(texts: list[Any] = TEXTS, **spec: Any) -> TextTransform:
    """Return a transform that is fitted on these texts; by default, ids are those of `TEXTS`."""
    declared = {"kind": "text", "length": 4, "tokenizer": "words", "min_count": 1, **spec}
    transform = TextTransform("x", "raw", Text.model_validate(declared))
    measured: dict[str, Any] = transform.observe(pa.array(texts, pa.string()))
    lengths = Summary()
    lengths.add(measured[CHARACTERS])
    return transform.learn({CHARACTERS: lengths, WORDS: Counter(measured[WORDS].to_pylist())})


def arrays(transform: TextTransform, *texts: str | None) -> dict[str, list[list[int]]]:
    """Return the tokens and masks of texts, as lists."""
    columns = transform.arrays(pa.array(texts, pa.string()))
    for group in transform.groups:
        assert columns[group.name].dtype == group.dtype
        assert columns[group.name].shape[1:] == group.shape
    return {name: values.tolist() for name, values in columns.items()}


def test_groups_are_tokens_and_their_mask() -> None:
    assert fitted().groups == (
        Group(name="x", kind="tokens", features=("x",), cardinalities=(7,), shape=(4,)),
        Group(name="x_mask", kind="mask", features=("x_mask",), shape=(4,)),
    )
    assert [group.name for group in fitted(mode="pack", group="words").groups] == ["words"]


def test_each_text_has_its_window() -> None:
    assert arrays(fitted(), "three two", "", None, "one nine") == {
        "x": [[3, 4, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [5, 1, 0, 0]],
        "x_mask": [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]],
    }
    assert arrays(fitted()) == {"x": [], "x_mask": []}


def test_long_text_is_cut_at_its_end_or_start_or_rejected() -> None:
    long = "one two three four one"
    assert arrays(fitted(), long)["x"] == [[5, 4, 3, 6]]
    assert arrays(fitted(truncate="start"), long)["x"] == [[4, 3, 6, 5]]
    with pytest.raises(DataError, match=r"1 of a batch of 2 texts have more than 4 tokens, up to 5; increase `length`"):
        arrays(fitted(truncate="error"), long, "one")


def test_packed_texts_are_concatenated() -> None:
    transform = fitted(mode="pack")
    assert arrays(transform, "one two three", "", "four three") == {"x": [[5, 4, 3, 2], [2, 6, 3, 2]]}
    assert arrays(transform, "one two", "four three") == {"x": [[5, 4, 2, 6], [3, 2, 0, 0]]}
    assert arrays(transform) == {"x": []}


@given(st.lists(st.sampled_from(TEXTS), max_size=12), st.integers(1, 9), st.integers(0, 12))
@hypothesis_settings(max_examples=60, deadline=None)
def test_packed_windows_do_not_depend_on_batch_boundaries(texts: list[Any], length: int, cut: int) -> None:
    transform = fitted(mode="pack", length=length)
    packer = Packer(transform)
    parts = [packer.add(pa.array(part, pa.string())) for part in (texts[:cut], texts[cut:])]
    windows = np.concatenate([*parts, packer.end()])
    assert np.array_equal(windows, transform.arrays(pa.array(texts, pa.string()))["x"])
    flat = windows.ravel()
    assert (flat[:-1][flat[1:] != 0] != 0).all()  # padding only at the end
    assert (flat == 2).sum() == len(texts)
    assert (flat == 0).sum() < length
    assert len(packer.end()) == 0


def test_mean_length_is_measured_on_the_training_rows() -> None:
    assert fitted().tokens_per_row == pytest.approx((3 + 2 + 1 + 4) / 6)


def test_lengths_are_measured_in_characters() -> None:
    measured = fitted().observe(pa.array(["blåbær", "", None]))
    assert measured[CHARACTERS].tolist() == pytest.approx([6, 0, np.nan], nan_ok=True)


@pytest.mark.parametrize("texts", [[], [None, ""], [" \n"]])
def test_column_without_any_text_is_rejected(texts: list[Any]) -> None:
    with pytest.raises(DataError, match=r"features\.x: column raw: no training row has a text"):
        fitted(texts)


def test_bytes_that_are_not_text_are_rejected() -> None:
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe"))
    for use in (fitted().observe, fitted().arrays):
        with pytest.raises(DataError, match=r"column raw: contains bytes that are not UTF-8"):
            use(bad)


def test_replacement_character_is_a_character_like_any_other() -> None:
    assert fitted(["caf\ufffd"], tokenizer="whitespace").tokenizer is not None


@pytest.mark.parametrize("tokenizer", ["bpe", "wordpiece", "words", "whitespace"])
def test_fitted_transform_survives_a_round_trip_and_has_a_typical_text(tokenizer: str) -> None:
    transform = fitted(tokenizer=tokenizer, vocab_size=300)
    again = TextTransform.from_dict(transform.to_dict())
    assert again == transform
    assert again.fitted
    text = transform.typical(pa.string())
    assert text in "one two three four"
    assert arrays(transform, text)["x_mask"][0][0] == 1
    assert load(transform.tokenizer or "").get_vocab_size() == transform.groups[0].cardinalities[0]
