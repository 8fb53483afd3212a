from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter

import pyarrow as pa

from farandole.preprocess.tokenizer import split_words, train
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


def digests() -> list[str]:
    """Train a tokenizer of each kind and return their digests."""
    found = []
    for tokenizer in TOKENIZERS:
        spec = Text.model_validate(
            {"kind": "text", "length": 8, "tokenizer": tokenizer, "vocab_size": 400, "min_count": 1}
        )
        words = Counter(split_words(pa.array(LINES, pa.string()), spec).flatten().to_pylist())
        found.append(hashlib.sha256(train(spec, words).encode()).hexdigest())
    return found


def test_another_process_trains_the_same_tokenizers() -> None:
    """Train in two more processes, because hash maps differ from process to process."""
    here = digests()
    assert len(set(here)) == len(TOKENIZERS)
    for _ in range(2):
        output = subprocess.run([sys.executable, __file__], check=True, capture_output=True, text=True).stdout
        assert output.split() == here


if __name__ == "__main__":
    print("\n".join(digests()))
