"""The feature that a column becomes, or the reason why it is left out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from pydantic import TypeAdapter

from farandole.guessing.columns import Column
from farandole.guessing.pictures import IMAGES_OPENED, image_spec
from farandole.spec import Bucket, Categorical, Numeric, Time
from farandole.spec.features import Feature

_ID_WORDS = {
    "id",
    "ids",
    "uuid",
    "guid",
    "key",
    "idx",
    "index",
    "rownames",
    "rowid",
    "rownumber",
    "rownum",
    "hash",
    "pk",
    "nr",
}
_ROW_NUMBERS = {
    "rownames",
    "index",
    "x",
    "x1",
    "row",
    "rownum",
    "rownumber",
    "rowid",
    "obs",
    "unnamed",
    "id",
    "no",
    "nr",
    "idx",
}
_FEATURE: TypeAdapter[Feature] = TypeAdapter(Feature)
_ACCENTS = dict.fromkeys(range(768, 880))
"""The combining characters that follow a letter when its accent is written apart."""
_MOSTLY_MISSING = 0.99
_MOSTLY_DISTINCT = 0.9
_MANY = 50
"""Texts with this many distinct values may be names or ids."""
_TEXT_WORDS = 6.0
"""Texts of this many words on average are read as texts."""
_RARE = 20
"""Categories with more distinct values leave the rare ones out of their vocabulary."""
_YEAR_S, _DAY_S = 365.25 * 86400, 86400
_RESERVED_PREFIX = "_farandole_"
"""The prefix of columns that the preparation adds."""


@dataclass(frozen=True)
class FeatureGuess:
    """A feature that a column becomes.

    Args:
        name: The feature's name, an identifier.
        column: The column.
        spec: The feature as the job file says it, `kind` included; `column` only where it differs from the name.
        note: What the job file says about it in a comment; may be empty.
    """

    name: str
    column: str
    spec: dict[str, Any]
    note: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A column that becomes no feature.

    Args:
        column: The column.
        reason: Why.
    """

    column: str
    reason: str


def guess_features(
    columns: Iterable[Column], taken: Iterable[str] = (), *, trend: bool = True
) -> tuple[list[FeatureGuess], list[LeftOut]]:
    """Return the features, and the columns that are left out.

    Args:
        columns: The columns, without the label.
        taken: Names that no feature may have.
        trend: Whether dates also become a number of days, which is of no use where the later rows test the model.
    """
    names = FeatureNames(taken)
    features: list[FeatureGuess] = []
    left_out: list[LeftOut] = []
    for column in columns:
        found = _guess_column(column, trend)
        if isinstance(found, str):
            left_out.append(LeftOut(column.name, found))
            continue
        for suffix, spec, note in found:
            name = names.make(column.name + suffix, spec)
            named = {"kind": spec["kind"]} | ({} if name == column.name else {"column": column.name}) | spec
            features.append(FeatureGuess(name, column.name, named, note))
    return features, left_out


def drop_texts(
    features: list[FeatureGuess], left_out: list[LeftOut], *, most_others: int = 3
) -> tuple[list[FeatureGuess], list[LeftOut]]:
    """Leave free texts out where there are enough other features, for which there is a better network.

    Args:
        features: The features.
        left_out: The columns that are left out.
        most_others: The number of other features beside which texts are kept.
    """
    others = [feature for feature in features if feature.spec["kind"] != "text"]
    if len(others) <= most_others:
        return features, left_out
    reason = "free text; declare `kind: text`, and use the builder farandole.models.fusion:build"
    texts = [feature for feature in features if feature.spec["kind"] == "text"]
    return others, left_out + [LeftOut(feature.column, reason) for feature in texts]


class FeatureNames:
    """Names of features, made of the names of columns: identifiers that differ in more than case.

    They also differ from the names of the columns that features make, such as `x_missing`.

    Args:
        taken: Names that are in use.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {"label", *(name.lower() for name in taken)}

    def make(self, column: str, spec: Mapping[str, Any]) -> str:
        """Return an identifier for a column that no other column has.

        Args:
            column: The name that it is made of.
            spec: The feature as the job file says it.
        """
        name = re.sub(r"[^A-Za-z0-9_]+", "_", without_accents(column)).strip("_") or "column"
        if column.isidentifier() and column.isascii():
            name = column
        name = f"column_{name}" if name[0].isdigit() else name
        candidate, number = name, 2
        while (made := _made_names(candidate, spec)) & self._taken:
            candidate, number = f"{name}_{number}", number + 1
        self._taken |= made
        return candidate


def _made_names(name: str, spec: Mapping[str, Any]) -> set[str]:
    """Return the name of a feature and those of the columns that it makes, in lower case."""
    feature = _FEATURE.validate_python(spec)
    columns = feature.columns(name) if isinstance(feature, Numeric | Categorical | Bucket | Time) else ()
    return {made.lower() for made in (name, *columns)}


def without_accents(text: str) -> str:
    """Return text without accents: `größe` is `grosse`; other scripts stay as they are."""
    return unicodedata.normalize("NFKD", text.replace("ß", "ss")).translate(_ACCENTS)


_Found = list[tuple[str, dict[str, Any], str]]
"""Suffix of the name, specification and note of each feature of a column."""


def _guess_column(column: Column, trend: bool) -> _Found | str:
    if problem := name_problem(column):
        return problem
    if not column.present:
        return "all values are missing"
    if column.missing > _MOSTLY_MISSING * column.rows:
        return f"{column.missing / column.rows:.1%} of the values are missing"
    if column.kind == "bytes":
        return _guess_bytes(column)
    if column.kind == "other":
        return f"holds {column.values.type}; select its parts in a `query`"
    if column.distinct == 1 and column.missing < 0.01 * column.rows:
        return f"every value is {_shown(column.top[0][0])}"
    if column.kind in ("date", "timestamp"):
        return _guess_time(column, trend)
    if column.kind == "text":
        return _guess_text(column)
    if column.kind == "boolean":
        return [("", {"kind": "categorical"}, "")]
    return _guess_number(column)


def _guess_number(column: Column) -> _Found | str:
    if column.is_whole and is_row_number(column):
        return "numbers the rows"
    if column.is_whole and has_id_name(column):
        if column.distinct > 0.5 * column.present:
            return f"an id: {column.distinct:,} different values in {column.present:,} rows"
        return [("", _category(column), "an id")]
    spec: dict[str, Any] = {"kind": "numeric", "scale": "robust_smooth"}
    if column.missing:
        spec["indicator"] = True
    return [("", spec, _missing_note(column))]


def _guess_text(column: Column) -> _Found | str:
    share = column.distinct / column.present
    if column.words >= _TEXT_WORDS and share > 0.3 and column.distinct > _MANY:
        length = text_length(column)
        return [("", {"kind": "text", "length": length}, "free text")]
    if share > _MOSTLY_DISTINCT and column.present >= 10:
        return f"almost every row has another text ({column.distinct:,} of {column.present:,}): names or ids"
    if share > 0.5 and column.distinct > _MANY:
        return f"{column.distinct:,} different texts in {column.present:,} rows: too many for categories"
    return [("", _category(column), _missing_note(column))]


def _category(column: Column) -> dict[str, Any]:
    rare = column.distinct > _RARE
    return {"kind": "categorical"} | ({"min_count": max(2, min(20, column.rows // 2000))} if rare else {})


def _guess_time(column: Column, trend: bool) -> _Found:
    numbers = column.numbers[~np.isnan(column.numbers)] / (1e6 if column.kind == "date" else _per_second(column))
    span = float(numbers.max() - numbers.min())
    parts = []
    if span > _YEAR_S / 6:
        parts.append("month")
    if span > 1.5 * _DAY_S:
        parts.append("weekday")
    if column.kind == "timestamp" and (numbers % _DAY_S != 0).any():
        parts.append("hour")
    cyclic: _Found = [("", {"kind": "time", "parts": parts}, "")] if parts else []
    days: _Found = [("_days", {"kind": "time", "parts": ["days"], "encoding": "number"}, "")]
    return cyclic + (days if trend or not cyclic else [])


def _per_second(column: Column) -> float:
    return {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[column.values.type.unit]


def _guess_bytes(column: Column) -> _Found | str:
    found = image_spec(value.as_py() for value in column.values.drop_null().slice(0, IMAGES_OPENED))
    return "holds bytes that are not images" if found is None else [("", found, "")]


def name_problem(column: Column) -> str | None:
    """Return why the preparation cannot use a column of this name, and the remedy; None if it can."""
    if not column.name:
        return "has no name; write the files again with one"
    if column.name.lower().startswith(_RESERVED_PREFIX):
        return f"names that begin with {_RESERVED_PREFIX} are reserved; rename the column in a `query` to use it"
    return None


def is_row_number(column: Column) -> bool:
    """Return whether a column counts the rows, as the row names of R and the index of pandas do."""
    if column.kind not in ("integer", "number") or column.missing or column.distinct != column.rows or column.rows < 3:
        return False
    numbers = column.numbers
    steps = np.diff(numbers)
    counts_up = bool((steps == 1).all()) and numbers[0] in (0, 1)
    named = not column.name.strip() or "".join(column.name_words).rstrip("0123456789") in _ROW_NUMBERS
    return counts_up or (named and bool((steps > 0).all()))


def has_id_name(column: Column) -> bool:
    """Return whether the name of a column says that it identifies something."""
    words = column.name_words
    return bool(words) and (words[-1] in _ID_WORDS or words[0] in {"id", "uuid"})


def text_length(column: Column) -> int:
    """Return the window that holds nearly all texts of a column, in tokens: a power of two."""
    words = pc.count_substring_regex(column.values.drop_null().slice(0, 20_000), r"\S+")
    wanted = 1.5 * float(pc.quantile(words, q=0.95)[0].as_py())
    return int(min(256, max(16, 2 ** np.ceil(np.log2(max(wanted, 1))))))


def _missing_note(column: Column) -> str:
    return f"{column.missing / column.rows:.0%} missing" if column.missing >= 0.005 * column.rows else ""


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:23] + "…"
