"""Texts as ids of tokens: each in a window of its own, or all one after the other.

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
from farandole.preprocess.values import as_text, reject_replacement_characters
from farandole.shards import Group
from farandole.spec import Text

CHARACTERS, WORDS = "characters", "words"
"""What a pass measures: the length of each text, and how often each word occurs."""


@dataclass(frozen=True)
class TextTransform(Transform):
    """A text as ids of a tokenizer that is trained on the training split.

    Args:
        tokenizer: The tokenizer as the JSON of its library; text in a manifest is read at once, a tree of as many
            tokens is not.
        tokens_per_row: How many tokens a training row has on average.
    """

    spec: Text
    tokenizer: str | None = None
    tokens_per_row: float = 0.0

    SPEC = Text
    LEARNED = ("tokenizer", "tokens_per_row")

    @property
    def groups(self) -> tuple[Group, ...]:
        """Tokens, and for texts in windows of their own a mask."""
        size = load(self.tokenizer).get_vocab_size() if self.tokenizer else 0
        shape = (self.spec.length,)
        tokens, *masks = self.spec.groups(self.name)
        return (
            Group(name=tokens, kind="tokens", features=(self.name,), cardinalities=(size,), shape=shape),
            *(Group(name=mask, kind="mask", features=(f"{self.name}_mask",), shape=shape) for mask in masks),
        )

    @property
    def packs(self) -> bool:
        """Whether texts follow each other without regard to rows."""
        return self.spec.mode == "pack"

    @property
    def fitted(self) -> bool:
        """Whether the tokenizer is trained."""
        return self.tokenizer is not None

    def observe(self, values: pa.Array) -> dict[str, np.ndarray | pa.Array]:
        """Lengths in characters, and words.

        Raises:
            DataError: A value was not UTF-8 in its file.
        """
        text = as_text(self.column, values)
        reject_replacement_characters(self.column, text)
        lengths = pc.utf8_length(text).cast(pa.float64()).to_numpy(zero_copy_only=False)
        return {CHARACTERS: np.asarray(lengths, dtype=np.float64), WORDS: split_words(text, self.spec).flatten()}

    def learn(self, seen: Measurements) -> TextTransform:
        """The transform with its tokenizer.

        Raises:
            DataError: No training row has a text.
        """
        words, characters = seen.get(WORDS, Counter()), seen.get(CHARACTERS, Summary())
        assert isinstance(words, Counter)
        assert isinstance(characters, Summary)
        if not any(word.strip() for word in words):
            raise DataError(f"{self.place}: no training row has a text; remove the feature, or mend the query")
        tokenizer = train(self.spec, words)
        distinct = pa.array([[word] for word in sorted(words)], pa.list_(pa.string()))
        _, lengths = encode(load(tokenizer), distinct)
        counts = np.array([words[word] for word in sorted(words)], dtype=np.int64)
        return replace(self, tokenizer=tokenizer, tokens_per_row=float(lengths @ counts) / characters.rows)

    def arrays(self, values: pa.Array) -> dict[str, np.ndarray]:
        """Tokens int32 `[B, L]`, and for texts in windows of their own a mask uint8 `[B, L]`. A missing text is an
        empty one.

        Raises:
            DataError: A text is longer than `length` and `truncate` is `error`.
        """
        if self.packs:
            packer = Packer(self)
            whole, rest = packer.add(values), packer.end()
            return {self.groups[0].name: np.concatenate([whole, rest])}
        tokens, mask = self.spec.groups(self.name)
        flat, lengths = self.ids(values)
        length = self.spec.length
        if self.spec.truncate == "error" and len(lengths) and lengths.max() > length:
            raise DataError(
                f"{self.place}: {int((lengths > length).sum())} of a batch of {len(lengths)} texts have more than"
                f" {length} tokens, up to {lengths.max()}; raise `length`, or let `truncate` cut them"
            )
        kept = np.minimum(lengths, length)
        ends = np.cumsum(lengths)
        firsts = ends - (kept if self.spec.truncate == "start" else lengths)
        filled = np.arange(length) < kept[:, None]
        windows = np.full(filled.shape, PADDING, dtype=np.int32)
        windows[filled] = flat[(firsts[:, None] + np.arange(length))[filled]]
        return {tokens: windows, mask: filled.astype(np.uint8)}

    def ids(self, values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all texts, one after the other, int32, and how many each text has, int64 `[B]`."""
        assert self.tokenizer is not None, f"{self.name} is not fitted"
        return encode(load(self.tokenizer), split_words(as_text(self.column, values), self.spec))

    def typical(self, kind: pa.DataType) -> Any:
        """The first token that was learned and is longer than a letter: of no text in particular."""
        assert self.tokenizer is not None, f"{self.name} is not fitted"
        tokenizer = load(self.tokenizer)
        first = len(RESERVED) + len(self.spec.special_tokens)
        texts = (tokenizer.decode([token]).strip(" #") for token in range(first, tokenizer.get_vocab_size()))
        text = next((text for text in texts if len(text) > 1 and text.isalpha()), "1")
        try:
            return pa.array([text]).cast(kind)[0].as_py()
        except pa.ArrowInvalid:  # a column of numbers that is read as text
            return pa.array([1]).cast(kind)[0].as_py() if not pa.types.is_temporal(kind) else None


class Packer:
    """Texts one after the other, each followed by the end token, cut into windows of L tokens.

    What the last text leaves is padded with id 0, which no text contains.

    Args:
        transform: What tokenizes them.
    """

    def __init__(self, transform: TextTransform) -> None:
        self._transform = transform
        self._rest = np.empty(0, dtype=np.int32)

    def add(self, values: pa.Array) -> np.ndarray:
        """The windows that these texts fill, int32 `[B, L]`."""
        flat, lengths = self._transform.ids(values)
        joined = np.concatenate([self._rest, np.insert(flat, np.cumsum(lengths), END)])
        length = self._transform.spec.length
        full = len(joined) // length * length
        self._rest = joined[full:]
        return joined[:full].reshape(-1, length)

    def end(self) -> np.ndarray:
        """The last window, if there is one: int32 `[0 or 1, L]`."""
        length = self._transform.spec.length
        windows = np.full((1 if len(self._rest) else 0, length), PADDING, dtype=np.int32)
        windows[:, : len(self._rest)] = self._rest
        self._rest = self._rest[:0]
        return windows
