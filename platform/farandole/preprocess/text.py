"""Texts as token ids: one window for each text, or all texts concatenated.

Shapes: B texts or windows, L tokens.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farandole.errors import DataError
from farandole.preprocess.summary import Summary
from farandole.preprocess.tokenizer import END, PADDING, RESERVED, encode, load, split_words, train
from farandole.preprocess.transform import Measurements, Transform
from farandole.preprocess.values import as_text
from farandole.shards import Group
from farandole.spec import Text

CHARACTERS, WORDS = "characters", "words"
"""The measures of a pass: the length of each text, and the number of occurrences of each word."""


@dataclass(frozen=True)
class TextTransform(Transform):
    """A text as ids of a tokenizer that is trained on the training split.

    Args:
        tokenizer: The tokenizer as the JSON text of its library; a manifest parses one text faster than a tree with all
            tokens.
        tokens_per_row: The average number of tokens of a training row.
    """

    spec: Text
    tokenizer: str | None = None
    tokens_per_row: float = 0.0

    SPEC = Text
    LEARNED = ("tokenizer", "tokens_per_row")

    @property
    def groups(self) -> tuple[Group, ...]:
        """Tokens and, for padded windows, a mask."""
        size = load(self.tokenizer).get_vocab_size() if self.tokenizer else 0
        shape = (self.spec.length,)
        tokens, *masks = self.spec.groups(self.name)
        return (
            Group(name=tokens, kind="tokens", features=(self.name,), cardinalities=(size,), shape=shape),
            *(Group(name=mask, kind="mask", features=(f"{self.name}_mask",), shape=shape) for mask in masks),
        )

    @property
    def packs(self) -> bool:
        """True if texts are concatenated regardless of rows."""
        return self.spec.mode == "pack"

    @property
    def fitted(self) -> bool:
        """True once the tokenizer is trained."""
        return self.tokenizer is not None

    def observe(self, values: pa.Array) -> dict[str, np.ndarray | pa.Array]:
        """Return lengths in characters, and words.

        Raises:
            DataError: The values are not text, or not UTF-8.
        """
        text = as_text(self.column, values)
        lengths = pc.utf8_length(text).cast(pa.float64()).to_numpy(zero_copy_only=False)
        return {CHARACTERS: np.asarray(lengths, dtype=np.float64), WORDS: split_words(text, self.spec).flatten()}

    def learn(self, measurements: Measurements) -> TextTransform:
        """Return the transform with its tokenizer.

        Raises:
            DataError: No training row has a text.
        """
        words, characters = measurements.get(WORDS, Counter()), measurements.get(CHARACTERS, Summary())
        assert isinstance(words, Counter)
        assert isinstance(characters, Summary)
        if not any(word.strip() for word in words):
            raise DataError(f"{self.origin}: no training row has a text; remove the feature, or fix the query")
        tokenizer = train(self.spec, words)
        distinct = pa.array([[word] for word in sorted(words)], pa.list_(pa.string()))
        _, lengths = encode(load(tokenizer), distinct)
        counts = np.array([words[word] for word in sorted(words)], dtype=np.int64)
        return replace(self, tokenizer=tokenizer, tokens_per_row=float(lengths @ counts) / characters.rows)

    def arrays(self, values: pa.Array) -> dict[str, np.ndarray]:
        """Return tokens, int32 `[B, L]`, and for padded windows a mask, uint8 `[B, L]`; a missing text is empty.

        Raises:
            DataError: A text is longer than `length` and `truncate` is `error`.
        """
        if self.packs:
            packer = Packer(self)
            full, rest = packer.add(values), packer.end()
            return {self.groups[0].name: np.concatenate([full, rest])}
        tokens, mask = self.spec.groups(self.name)
        flat, lengths = self.ids(values)
        length = self.spec.length
        if self.spec.truncate == "error" and len(lengths) and lengths.max() > length:
            raise DataError(
                f"{self.origin}: {int((lengths > length).sum())} of a batch of {len(lengths)} texts have more than"
                f" {length} tokens, up to {lengths.max()}; increase `length`, or let `truncate` cut them"
            )
        kept = np.minimum(lengths, length)
        ends = np.cumsum(lengths)
        firsts = ends - (kept if self.spec.truncate == "start" else lengths)
        filled = np.arange(length) < kept[:, None]
        windows = np.full(filled.shape, PADDING, dtype=np.int32)
        windows[filled] = flat[(firsts[:, None] + np.arange(length))[filled]]
        return {tokens: windows, mask: filled.astype(np.uint8)}

    def ids(self, values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Return the concatenated ids of all texts, int32, and the number of ids of each text, int64 `[B]`."""
        assert self.tokenizer is not None, f"{self.name} is not fitted"
        return encode(load(self.tokenizer), split_words(as_text(self.column, values), self.spec))

    def typical(self, raw_type: pa.DataType) -> Any:
        """Return the first learned token that is longer than a letter; it belongs to no particular text."""
        assert self.tokenizer is not None, f"{self.name} is not fitted"
        tokenizer = load(self.tokenizer)
        first = len(RESERVED) + len(self.spec.special_tokens)
        texts = (tokenizer.decode([token]).strip(" #") for token in range(first, tokenizer.get_vocab_size()))
        text = next((text for text in texts if len(text) > 1 and text.isalpha()), "1")
        try:
            return pa.array([text]).cast(raw_type)[0].as_py()
        except pa.ArrowInvalid:  # a column of numbers that is read as text
            return pa.array([1]).cast(raw_type)[0].as_py() if not pa.types.is_temporal(raw_type) else None


class Packer:
    """Concatenation of texts, each followed by the end token, cut into windows of L tokens.

    The rest of the last window is padded with id 0, which no text contains.

    Args:
        transform: The transform that tokenizes the texts.
    """

    def __init__(self, transform: TextTransform) -> None:
        self._transform = transform
        self._rest = np.empty(0, dtype=np.int32)

    def add(self, values: pa.Array) -> np.ndarray:
        """Return the windows that these texts complete, int32 `[B, L]`."""
        flat, lengths = self._transform.ids(values)
        joined = np.concatenate([self._rest, np.insert(flat, np.cumsum(lengths), END)])
        length = self._transform.spec.length
        full = len(joined) // length * length
        self._rest = joined[full:]
        return joined[:full].reshape(-1, length)

    def end(self) -> np.ndarray:
        """Return the last window, if there is one: int32 `[0 or 1, L]`."""
        length = self._transform.spec.length
        windows = np.full((1 if len(self._rest) else 0, length), PADDING, dtype=np.int32)
        windows[:, : len(self._rest)] = self._rest
        self._rest = self._rest[:0]
        return windows
