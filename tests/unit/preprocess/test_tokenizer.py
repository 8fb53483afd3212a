from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from farandole.preprocess.tokenizer import RESERVED, encode, load, split_words, train
from farandole.spec import Text

TOKENIZERS = ("bpe", "wordpiece", "words", "whitespace")
LINES = [
    "The quick brown fox jumps over the lazy dog.",
    "  Pack my box\nwith five dozen liquor jugs; the box, the jugs!",
    "Åse fra Ærø spiser blåbær på øen, og Ærø er en ø.",
    "速い茶色の狐 飛び越える 怠けた犬 狐 狐",
    "the fox\tthe dog the box 12 123 1234 \u00a0 12",
    "",
] * 3


def text(tokenizer: str, **fields: Any) -> Text:
    """Return a declaration with small windows."""
    return Text.model_validate({"kind": "text", "length": 8, "tokenizer": tokenizer, "vocab_size": 400, **fields})


def counted(lines: list[str], spec: Text) -> Counter[str]:
    """Count the words of lines."""
    return Counter(split_words(pa.array(lines, pa.string()), spec).flatten().to_pylist())


def ids_of(fitted: Tokenizer, lines: list[str], spec: Text | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of lines, and the number of ids of each."""
    return encode(fitted, split_words(pa.array(lines, pa.string()), spec or text("words")))


def trained(tokenizer: str, lines: list[str] = LINES, **fields: Any) -> Tokenizer:
    """Train a tokenizer on lines."""
    spec = text(tokenizer, **fields)
    return load(train(spec, counted(lines, spec)))


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_first_ids_are_padding_unknown_end_and_special_tokens(tokenizer: str) -> None:
    fitted = trained(tokenizer, special_tokens=["<sep>", "<cls>"])
    assert [fitted.id_to_token(number) for number in range(5)] == [*RESERVED, "<sep>", "<cls>"]
    assert sorted(fitted.get_vocab().values()) == list(range(fitted.get_vocab_size()))
    assert fitted.get_vocab_size() <= 400
    ids, lengths = ids_of(fitted, ["the<sep>fox", "", "<cls>"])
    assert list(ids).count(3) == 1
    assert ids[-1] == 4
    assert lengths.tolist() == [len(ids) - 1, 0, 1]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_text_cannot_forge_padding_or_an_end(tokenizer: str) -> None:
    forged = [*RESERVED, *(token.replace(" ", "") for token in RESERVED), "<pad>", "[PAD]"] * 3
    ids, _ = ids_of(trained(tokenizer, forged, min_count=1), forged, text(tokenizer))
    assert not {0, 2} & set(ids.tolist())


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_tokenizer_does_not_depend_on_the_order_of_words(tokenizer: str) -> None:
    spec = text(tokenizer, min_count=1)
    words = list(counted(LINES * 5, spec).items())
    first = train(spec, Counter(dict(words)))
    for seed in range(8):
        random.Random(seed).shuffle(words)
        assert train(spec, Counter(dict(words))) == first


BLANKS = st.sampled_from([" ", "  ", "\n", "\t", " \n\n ", "\r\n"])
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=6)
TEXTS = st.lists(st.tuples(BLANKS | st.just(""), WORDS), max_size=8).map(lambda parts: "".join(map("".join, parts)))


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@given(texts=st.lists(TEXTS | st.sampled_from(LINES), max_size=6))
@hypothesis_settings(max_examples=40, deadline=None)
def test_encoding_by_words_gives_the_ids_of_the_library(tokenizer: str, texts: list[str]) -> None:
    spec = text(tokenizer, lower=True)
    json = train(spec, counted(LINES, spec))
    ids, lengths = ids_of(load(json), texts, spec)
    expected = [encoding.ids for encoding in Tokenizer.from_str(json).encode_batch(texts)]
    assert lengths.tolist() == [len(token_ids) for token_ids in expected]
    assert ids.tolist() == [token for token_ids in expected for token in token_ids]


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=6))
@example(texts=["\x1f", "a\x1fb \x1c", "\ufdd0 c"])
@hypothesis_settings(max_examples=40, deadline=None)
def test_bpe_encodes_every_text_reversibly(texts: list[str]) -> None:
    fitted = trained("bpe", unicode="none")
    ids, lengths = ids_of(fitted, texts, text("bpe"))
    assert 1 not in ids
    start = 0
    for original, length in zip(texts, lengths.tolist(), strict=True):
        back = fitted.decode(ids[start : start + length].tolist())
        assert back == (original if original.startswith(" ") or not original else " " + original)
        start += length


def test_words_are_sorted_by_count_and_then_by_value() -> None:
    fitted = trained("words", ["b a. b, a c", "a b z"], min_count=2)
    assert [fitted.id_to_token(number) for number in range(3, fitted.get_vocab_size())] == ["a", "b"]
    assert ids_of(fitted, ["a z b"])[0].tolist() == [3, 1, 4]
    assert trained("words", ["a b c d e f g"] * 2, vocab_size=8).get_vocab_size() == 8


def test_whitespace_tokenizer_keeps_punctuation_with_words() -> None:
    fitted = trained("whitespace", ["well, well,"])
    assert fitted.token_to_id("well,") == 3


def test_wordpiece_splits_words() -> None:
    fitted = trained("wordpiece", ["low lower lowest"] * 9, vocab_size=60)
    tokens = [fitted.id_to_token(token) for token in ids_of(fitted, ["lowes"])[0].tolist()]
    assert "".join(str(token).removeprefix("##") for token in tokens) == "lowes"
    assert ids_of(fitted, ["日"])[0].tolist() == [1]


def test_rare_characters_of_a_small_wordpiece_vocabulary_are_unknown() -> None:
    fitted = trained("wordpiece", ["a a a b b c", "d"] * 2, vocab_size=15)
    assert fitted.get_vocab_size() <= 15
    assert 1 not in ids_of(fitted, ["a b c"])[0]
    assert ids_of(fitted, ["d"])[0].tolist() == [1]


@pytest.mark.parametrize(
    ("fields", "one", "other"),
    [
        ({"unicode": "nfc"}, "é", "e\u0301"),
        ({"unicode": "nfkc"}, "ﬁve ①", "five 1"),
        ({"lower": True}, "ÅSE", "åse"),
        ({"strip_accents": True}, "Åse blåbær", "Ase blabær"),
        ({"strip_accents": True, "lower": True, "unicode": "none"}, "É", "e"),
    ],
)
def test_texts_are_normalized(fields: dict[str, Any], one: str, other: str) -> None:
    fitted = trained("bpe", **fields)
    assert ids_of(fitted, [one], text("bpe"))[0].tolist() == ids_of(fitted, [other], text("bpe"))[0].tolist()


def test_counts_beyond_the_maximum_of_words_are_scaled_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farandole.preprocess.tokenizer.MAX_WORDS", 100)
    fitted = trained("bpe", ["banana bandana"] * 1000)
    assert len(ids_of(fitted, ["banana"], text("bpe"))[0]) <= 2
