"""Rows of datasets as people read them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from farandole.cli.decoding import Decoder
from farandole.preprocess.tokenizer import encode, load, split_words, train
from farandole.shards import Group, LabelColumn, LabelScale, Manifest, Schema
from farandole.spec import Text


def _decoder(label: LabelColumn | None = None, **transforms: dict[str, Any]) -> Decoder:
    preprocessing = {"transforms": [{"name": name, **transform} for name, transform in transforms.items()]}
    columns = Schema(groups=(), label=label)
    manifest = Manifest.model_construct(columns=columns, preprocessing=preprocessing)  # type: ignore[call-arg]
    return Decoder(manifest)


def test_ids_are_shown_as_the_values_that_they_stand_for() -> None:
    decoder = _decoder(colour={"kind": "vocabulary", "vocabulary": ["red", "blue"]}, size={"kind": "hash"})
    group = Group(name="ids", kind="ids", features=("colour", "size"), cardinalities=(4, 9))
    cells = [decoder.cells(group, np.array([colour, 7])) for colour in (2, 3, 0, 1)]
    assert [cell["colour"] for cell in cells if cell] == ["red", "blue", "(unknown)", "(missing)"]
    assert cells[0] is not None
    assert cells[0]["size"] == 7, "a hash does not show its value"


def test_tokens_are_shown_as_text_without_padding() -> None:
    import pyarrow as pa

    spec = Text(kind="text", length=16, vocab_size=300)
    words = Counter({"the": 50, " late": 20, " flight": 30})
    tokenizer = train(spec, words)
    flat, _ = encode(load(tokenizer), split_words(pa.array(["the late flight"]), spec))
    group = Group(name="notes", kind="tokens", features=("notes",), cardinalities=(300,), shape=(16,))
    window = np.zeros(16, dtype=np.int32)
    window[: len(flat)] = flat
    cells = _decoder(notes={"kind": "text", "tokenizer": tokenizer}).cells(group, window)
    assert cells is not None
    assert cells["notes"].strip() == "the late flight"


def test_label_is_shown_as_its_class_and_a_number_stays() -> None:
    binary = LabelColumn(column="late", kind="binary", classes=("no", "yes"))
    assert [_decoder(binary).label(value) for value in (0.0, 1.0)] == ["no", "yes"]
    assert _decoder(None).label(2.5) == 2.5


def test_scaled_label_is_shown_in_its_own_units() -> None:
    price = LabelColumn(column="price", kind="regression", scale=LabelScale(mean=100.0, deviation=10.0))
    assert _decoder(price).label(-1.5) == 85.0


def test_numbers_are_left_to_the_caller() -> None:
    assert _decoder().cells(Group(name="dense", kind="numbers", features=("x",)), np.array([1.0])) is None
