"""The form of a model: one field for each raw column, made from the column's type and from what was learned of it."""

from __future__ import annotations

import base64
import datetime
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from farandole.preprocess import Preprocessing
from farandole.preprocess.categorical import VocabularyTransform
from farandole.preprocess.image import ImageTransform
from farandole.preprocess.numeric import NumericTransform
from farandole.preprocess.text import TextTransform
from farandole.preprocess.transform import Transform
from farandole.serving.page.outline import format_number

Control = Literal[
    "number", "select", "suggest", "boolean", "date", "time", "line", "text", "list", "image", "pixels", "file"
]
"""The control that a person uses. `suggest` is a line with suggestions, `list` holds JSON, `pixels` turns an image file
into the pixels of the column, and `file` takes the bytes of a file as they are."""
Sends = Literal["number", "boolean", "text", "instant", "json", "base64"]
"""The JSON value that a field becomes: a number, true or false, a text, a time in ISO 8601 that ends in `Z`, any JSON,
or bytes in base64. A missing value is always null."""

MAX_SELECTED = 30
"""Categories that a list to select from shows; more are suggestions to what is typed."""
MAX_SUGGESTED = 1000
"""Suggestions of a field: the most frequent categories."""
MAX_ALL_SUGGESTED = 20_000
"""Suggestions of a form, which fields with many categories share."""
_INTEGERS = ("tinyint", "smallint", "int", "bigint")
_FLOATS = ("float", "double")
_TYPE_WORDS = {
    **dict.fromkeys(_INTEGERS, "whole number"),
    **dict.fromkeys(_FLOATS, "number"),
    "boolean": "true or false",
    "string": "text",
    "date": "date",
    "timestamp": "date and time in UTC",
    "timestamp_ntz": "date and time, without a zone",
    "binary": "bytes",
}


@dataclass(frozen=True)
class Pixels:
    """The pixels that an image file becomes.

    Args:
        height: In pixels.
        width: In pixels.
        channels: 3 for red, green and blue, 1 for gray.
        planar: Whether the values of a channel come together, and not those of a pixel.
        fit: How another aspect ratio is handled: `crop`, `pad` or `stretch`.
    """

    height: int
    width: int
    channels: int
    planar: bool
    fit: str


@dataclass(frozen=True)
class FormField:
    """One field of the form.

    Args:
        column: The raw column; any text.
        control: What a person uses.
        sends: The JSON value that it becomes.
        example: The text to begin with, for files in base64; None: missing.
        options: Known values: all in order to select from, or the most frequent ones as suggestions.
        hint: Type and range of the values, for people.
        pixels: For images: the pixels that the model reads.
    """

    column: str
    control: Control
    sends: Sends
    example: str | None = None
    options: tuple[str, ...] = ()
    hint: str = ""
    pixels: Pixels | None = None


def form_fields(
    preprocessing: Preprocessing,
    columns: Mapping[str, str] | None = None,
    statistics: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[FormField, ...]:
    """Return the fields of a model's form, in the order of its columns.

    Args:
        preprocessing: The fitted preprocessing.
        columns: The raw columns that the service takes, and their SQL types; by default those of the features. Where
            the job's query travels with the model, they are the columns of its sources.
        statistics: What training saw of a column, as in a bundle's `statistics.json`.
    """
    columns = columns or {column: preprocessing.types[column] for column in preprocessing.columns}
    transforms: dict[str, list[Transform]] = {}
    for transform in preprocessing.transforms:
        if columns.get(transform.column) == preprocessing.types[transform.column]:
            transforms.setdefault(transform.column, []).append(transform)
    known = {column: _known_values(found) for column, found in transforms.items()}
    num_long = sum(len(values) > MAX_SELECTED for values in known.values())
    most = min(MAX_SUGGESTED, max(MAX_SELECTED, MAX_ALL_SUGGESTED // max(1, num_long)))
    examples = preprocessing.example()
    return tuple(
        _field(
            column,
            sql_type,
            transforms.get(column, ()),
            known.get(column, ()),
            most,
            examples[column][0] if column in transforms else None,
            (statistics or {}).get(column, {}),
        )
        for column, sql_type in columns.items()
    )


def _field(
    column: str,
    sql_type: str,
    transforms: Sequence[Transform],
    known: tuple[str, ...],
    most: int,
    example: Any,
    statistics: Mapping[str, Any],
) -> FormField:
    image = next((transform for transform in transforms if isinstance(transform, ImageTransform)), None)
    control = _control(sql_type, transforms, known, image)
    hint = _hint(sql_type, control, known, most, image, statistics)
    pixels = _pixels(image) if control in ("image", "pixels") and image is not None else None
    text = None if control == "pixels" else _example_text(example)
    options = _in_order(known) if control == "select" else known[:most] if control == "suggest" else ()
    return FormField(column, control, _sends(sql_type), text, options, hint, pixels)


def _known_values(transforms: Sequence[Transform]) -> tuple[str, ...]:
    """Return the learned categories of a column, unless it is a number or a text as well."""
    if any(isinstance(transform, NumericTransform | TextTransform) for transform in transforms):
        return ()
    learned = (transform.vocabulary for transform in transforms if isinstance(transform, VocabularyTransform))
    return next((vocabulary for vocabulary in learned if vocabulary), ())


def _in_order(known: Sequence[str]) -> tuple[str, ...]:
    """Return categories as people look for them: by number if all are numbers, otherwise by letter."""
    try:
        return tuple(sorted(known, key=float))
    except ValueError:
        return tuple(sorted(known))


def _control(
    sql_type: str, transforms: Sequence[Transform], known: Sequence[str], image: ImageTransform | None
) -> Control:
    if sql_type == "boolean":
        return "boolean"
    if image is not None and image.spec.pixels != "encoded" and not sql_type.startswith("array<array<"):
        return "pixels"
    if sql_type.startswith("array<"):
        return "list"
    if sql_type == "binary":
        return "image" if image is not None else "file"
    if known:
        return "select" if len(known) <= MAX_SELECTED else "suggest"
    if sql_type == "date":
        return "date"
    if sql_type.startswith("timestamp"):
        return "time"
    if sql_type != "string" or any(isinstance(transform, NumericTransform) for transform in transforms):
        return "number"
    return "text" if any(isinstance(transform, TextTransform) for transform in transforms) else "line"


def _sends(sql_type: str) -> Sends:
    if sql_type in (*_INTEGERS, *_FLOATS):
        return "number"
    if sql_type == "boolean":
        return "boolean"
    if sql_type.startswith("array<"):
        return "json"
    if sql_type == "timestamp":
        return "instant"
    return "base64" if sql_type == "binary" else "text"  # decimals are texts, since JSON numbers may lose digits


def _pixels(image: ImageTransform) -> Pixels:
    (height, width, channels) = image.groups[0].shape
    return Pixels(height, width, channels, planar=image.spec.pixels == "chw", fit=image.spec.fit)


def _hint(
    sql_type: str,
    control: Control,
    known: Sequence[str],
    most: int,
    image: ImageTransform | None,
    statistics: Mapping[str, Any],
) -> str:
    if image is not None and control in ("image", "pixels"):
        height, width = image.spec.size
        color = "gray" if image.spec.mode == "gray" else "in color"
        return f"image file, resized to {width} by {height} pixels {color}"
    decimal = re.fullmatch(r"decimal\(\d+,(\d+)\)", sql_type)
    words = [
        f"number with up to {decimal[1]} decimals"
        if decimal
        else _TYPE_WORDS.get(sql_type, "list of numbers as JSON" if control == "list" else sql_type)
    ]
    if known and control in ("select", "suggest"):
        words = [f"one of {len(known):,} known values" if len(known) > 1 else "one known value"]
        if len(known) > max(most, MAX_SELECTED):
            words.append(f"the {most:,} most frequent are suggested")
    if span := _range(statistics):
        words.append(span)
    return ", ".join(words)


def _range(statistics: Mapping[str, Any]) -> str:
    """Return the range of a number in training, if its statistics hold finite edges."""
    edges = [edge for edge in statistics.get("edges") or () if isinstance(edge, int | float) and math.isfinite(edge)]
    if statistics.get("kind") != "number" or len(edges) < 2:
        return ""
    return f"training mostly saw {format_number(edges[0])} to {format_number(edges[-1])}"


def _example_text(value: Any) -> str | None:
    """Write a value as a person enters it into its field."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=None).isoformat(timespec="seconds")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(float(f"{value:.6g}"))
    return str(value) if isinstance(value, int | Decimal) else json.dumps(value)
