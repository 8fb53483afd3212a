"""Decoding of a dataset's rows, for people: tokens as text, ids as the values that they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np

from farandole.shards import Group, Manifest

_UNKNOWN, _MISSING = "(unknown)", "(missing)"


class Decoder:
    """Decoder of the rows of one dataset.

    Args:
        manifest: Its manifest, with the fitted preprocessing.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._label = manifest.columns.label
        transforms = manifest.preprocessing.get("transforms", [])
        self._vocabularies = {
            transform["name"]: transform["vocabulary"]
            for transform in transforms
            if transform["kind"] == "vocabulary" and transform.get("vocabulary") is not None
        }
        self._tokenizers = {
            transform["name"]: transform["tokenizer"] for transform in transforms if transform.get("tokenizer")
        }

    def cells(self, group: Group, values: np.ndarray) -> dict[str, Any] | None:
        """Return a row's decoded values in a group by feature; None if there is nothing to decode.

        Args:
            group: The group.
            values: The row's values in it.
        """
        if group.kind == "ids":
            pairs = zip(group.features, values.tolist(), strict=True)
            return {name: self._category(name, number) for name, number in pairs}
        if group.kind == "tokens" and group.features[0] in self._tokenizers:
            return {group.name: self._text(group.features[0], values.reshape(-1).tolist())}
        return None

    def label(self, value: float) -> Any:
        """Return the name of a class, or a number in the label's own units."""
        if self._label is None:
            return value
        if self._label.scale is not None:
            return float(self._label.scale.invert(np.array([value]))[0])
        if not self._label.classes or not float(value).is_integer():
            return value
        number = int(value)
        return self._label.classes[number] if 0 <= number < len(self._label.classes) else value

    def _category(self, name: str, number: int) -> Any:
        vocabulary = self._vocabularies.get(name)
        if vocabulary is None:
            return number
        from farandole.preprocess.categorical import FIRST, MISSING, UNKNOWN

        if number in (UNKNOWN, MISSING):
            return _UNKNOWN if number == UNKNOWN else _MISSING
        return vocabulary[number - FIRST]

    def _text(self, name: str, tokens: list[int]) -> str:
        from farandole.preprocess.tokenizer import PADDING, load

        tokenizer = load(self._tokenizers[name])
        return str(tokenizer.decode([token for token in tokens if token != PADDING], skip_special_tokens=False))
