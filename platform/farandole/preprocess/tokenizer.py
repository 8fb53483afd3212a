"""Tokenizers of the library `tokenizers`, trained on exact counts of words.

The library's own training reads texts sequentially; where its result depends on the order of words, or on its random
hash maps, the order is fixed here. Therefore the same training rows give the same tokenizer, byte for byte.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer

from farandole.errors import DataError
from farandole.spec import Text

PADDING, UNKNOWN, END = 0, 1, 2
"""The ids that every tokenizer has."""
RESERVED = ("<padding of a window>", "<unknown token>", "<end of text>")
"""Their tokens. A text cannot contain them, because they contain spaces and no piece of a text does."""
MAX_WORDS = 20_000_000
"""The number of words that a training reads; if there are more, all counts are divided by the same number."""
_MAX_CHARACTERS = 1000
"""The number of different characters in a WordPiece vocabulary, as in BERT; others are unknown."""
_NONCHARACTERS = range(0xFDD0, 0xFDF0)
"""Code points that Unicode never assigns: one that a batch of texts does not contain marks the start of words."""
_WORDS_PER_TEXT = 1000


def split_words(text: pa.StringArray, spec: Text) -> pa.ListArray:
    """Split each text into words, with the whitespace before them; tokens never span two words.

    A missing or empty text has no words.

    Raises:
        DataError: The texts contain every code point that could mark the start of a word.
    """
    text = pc.fill_null(text, "")
    if spec.tokenizer == "bpe":  # its words start with a space, including the first one
        plain = pc.or_(pc.starts_with(text, " "), pc.equal(text, ""))
        text = pc.if_else(plain, text, pc.binary_join_element_wise(" ", text, ""))
    mark = _absent_character(text)
    return pc.split_pattern(pc.replace_substring_regex(text, r"(\s+)", mark + r"\1"), mark)


def _absent_character(text: pa.StringArray) -> str:
    for code in _NONCHARACTERS:
        if not pc.any(pc.match_substring(text, chr(code))).as_py():
            return chr(code)
    raise DataError("a text contains all of Unicode's noncharacters U+FDD0 to U+FDEF, so it is not text; remove it")


def train(spec: Text, words: Counter[str]) -> str:
    """Train a tokenizer and return it as JSON.

    Args:
        spec: The kind and the size of the tokenizer.
        words: The number of occurrences of each word of `split_words` in the training split.
    """
    normalizer, splitter = _normalizer(spec), _splitter(spec, whole=False)
    pieces: Counter[str] = Counter()
    for word, count in words.items():
        for piece, _ in splitter.pre_tokenize_str(normalizer.normalize_str(word)):
            pieces[piece] += count
    tokenizer = Tokenizer(_model(spec, pieces))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, _splitter(spec, whole=True)
    if spec.tokenizer == "bpe":
        tokenizer.decoder = decoders.ByteLevel()
    elif spec.tokenizer == "wordpiece":
        tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in spec.special_tokens])
    return tokenizer.to_str()


@functools.lru_cache(maxsize=16)
def load(json: str) -> Tokenizer:
    """Return the tokenizer that `train` wrote, set up to encode single words."""
    tokenizer = Tokenizer.from_str(json)
    if isinstance(tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel):
        tokenizer.pre_tokenizer.add_prefix_space = False  # `split_words` has already added it
    return tokenizer


def encode(tokenizer: Tokenizer, words: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the concatenated ids of many texts. Each distinct word is encoded once.

    Args:
        tokenizer: The result of `load`.
        words: The result of `split_words`.

    Returns:
        int32 `[tokens of all texts]`, and int64 `[texts]`: the number of tokens of each text.
    """
    encoded = words.flatten().dictionary_encode()
    ids, lengths = _encode(tokenizer, encoded.dictionary.to_pylist())
    chosen = encoded.indices.to_numpy()
    starts, counts = (np.cumsum(lengths) - lengths)[chosen], lengths[chosen]
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    flat = ids[np.repeat(starts - (ends - counts), counts) + np.arange(total)]
    borders = np.concatenate([[0], ends])[np.concatenate([[0], np.cumsum(pc.list_value_length(words).to_numpy())])]
    return flat, np.diff(borders)


def _encode(tokenizer: Tokenizer, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the concatenated ids of words, and the number of ids of each word."""
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(words, add_special_tokens=False)]
    lengths = np.array([len(word_ids) for word_ids in ids], dtype=np.int64)
    return np.fromiter(itertools.chain.from_iterable(ids), dtype=np.int32, count=int(lengths.sum())), lengths


def _normalizer(spec: Text) -> Normalizer:
    steps: list[Normalizer] = []
    if spec.strip_accents:
        steps += [normalizers.NFKD() if spec.unicode == "nfkc" else normalizers.NFD(), normalizers.StripAccents()]
    if spec.lower:
        steps.append(normalizers.Lowercase())
    if spec.unicode != "none":
        steps.append(normalizers.NFKC() if spec.unicode == "nfkc" else normalizers.NFC())
    return normalizers.Sequence(steps)


def _splitter(spec: Text, *, whole: bool) -> PreTokenizer:
    """Return the pre-tokenizer that splits a whole text, or one of its words."""
    if spec.tokenizer == "bpe":
        return pre_tokenizers.ByteLevel(add_prefix_space=whole)
    if spec.tokenizer == "wordpiece":
        return pre_tokenizers.BertPreTokenizer()
    return pre_tokenizers.Whitespace() if spec.tokenizer == "words" else pre_tokenizers.WhitespaceSplit()


def _model(spec: Text, pieces: Counter[str]) -> models.Model:
    reserved = [*RESERVED, *spec.special_tokens]
    if spec.tokenizer in ("words", "whitespace"):
        frequent = sorted((-count, piece) for piece, count in pieces.items() if count >= spec.min_count)
        known = [piece for _, piece in frequent if piece not in reserved][: spec.vocab_size - len(reserved)]
        vocabulary = {token: number for number, token in enumerate([*reserved, *known])}
        return models.WordLevel(vocab=vocabulary, unk_token=RESERVED[UNKNOWN])
    divisor = max(1, math.ceil(pieces.total() / MAX_WORDS))
    counts = {piece: math.ceil(count / divisor) for piece, count in pieces.items()}
    fewest = math.ceil(spec.min_count / divisor)
    if spec.tokenizer == "bpe":
        trainer = trainers.BpeTrainer(
            vocab_size=spec.vocab_size,
            min_frequency=fewest,
            show_progress=False,
            special_tokens=reserved,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        return _trained(models.BPE(), trainer, counts)
    counts, characters = _common_characters(counts, (spec.vocab_size - len(reserved)) // 4)
    pieces_trainer = trainers.WordPieceTrainer(
        vocab_size=spec.vocab_size,
        min_frequency=fewest,
        show_progress=False,
        # Otherwise the trainer would number the characters inside words in the order of a random hash map.
        special_tokens=[*reserved, *(f"##{character}" for character in characters)],
    )
    return _trained(models.WordPiece(unk_token=RESERVED[UNKNOWN]), pieces_trainer, counts)


def _common_characters(counts: dict[str, int], limit: int) -> tuple[dict[str, int], list[str]]:
    """Return the words that consist of the most frequent characters only, and these characters, sorted."""
    occurrences: Counter[str] = Counter()
    for word, count in counts.items():
        for character in word:
            occurrences[character] += count
    ranked = sorted(occurrences, key=lambda character: (-occurrences[character], character))
    kept = set(ranked[: min(limit, _MAX_CHARACTERS)])
    return {word: count for word, count in counts.items() if kept.issuperset(word)}, sorted(kept)


def _trained(
    model: models.Model, trainer: trainers.BpeTrainer | trainers.WordPieceTrainer, counts: dict[str, int]
) -> models.Model:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(" ")
    tokenizer.train_from_iterator(_repeated(counts), trainer)
    trained: models.Model = tokenizer.model
    return trained


def _repeated(counts: dict[str, int]) -> Iterator[str]:
    """Yield each word as often as it was counted, the only form that the library accepts."""
    for word in sorted(counts):
        for start in range(0, counts[word], _WORDS_PER_TEXT):
            yield " ".join([word] * min(_WORDS_PER_TEXT, counts[word] - start))
