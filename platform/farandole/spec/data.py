"""The `data` part of a job file: sources, query, expectations, features, split and shards of a dataset."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, ValidationInfo, field_validator, model_validator

from farandole.spec.base import INTERNAL, PathText, Spec, non_default_fields
from farandole.spec.feature_groups import feature_groups, raw_column
from farandole.spec.features import IDENTIFIERS_ONLY, Feature, Identifier, Label
from farandole.spec.privacy import Drop, Generalise, KeyReference, Privacy
from farandole.spec.shorthand import (
    AutoFeatures,
    allow_label_name,
    allow_short_features,
    expand_features,
    expand_label,
)
from farandole.spec.sources import Source

SPLITS = ("train", "validation", "test")
"""The names of the splits, in the order in which they are written."""

Bound = bool | int | float | str
"""A number, a text, or a date or timestamp as text."""


_WANTED_TYPES = {"numeric": "double", "bucket": "double", "regression": "double", "time": "timestamp"}
"""The SQL types that kinds of features and labels need; the other kinds use texts as they are written."""


_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_COLUMN = r"(?:\w+\.)?(`[^`]+`|[A-Za-z_]\w*)"
_OPERATOR = r"(?:<=(?!>)|>=|<(?![=>])|(?<!<)(?<!<=)>|[-+*/%])"
_CALCULATIONS = (
    rf"{_COLUMN}\s*{_OPERATOR}",
    rf"{_OPERATOR}\s*{_COLUMN}",
    rf"{_COLUMN}\s+(?:NOT\s+)?BETWEEN\b",
    rf"\b(?:MIN|MAX|SUM|AVG|MEAN|STDDEV|GREATEST|LEAST|ABS|ROUND|LN|LOG|SQRT|EXP)\s*\(\s*{_COLUMN}",
    rf"\b(?:GREATEST|LEAST)\s*\([^()]*,\s*{_COLUMN}",
    rf"\bORDER\s+BY\s+{_COLUMN}",
    rf"\bORDER\s+BY\s+[^()]*?,\s*{_COLUMN}",
)


def calculated_columns(query: str) -> frozenset[str]:
    """Return the names that a query calculates with, compares by their order, or sorts by, and perhaps some more."""
    text = _QUOTED.sub(" ", query)
    found = (match for pattern in _CALCULATIONS for match in re.finditer(pattern, text, re.IGNORECASE))
    return frozenset(match[1].strip("`") for match in found)


class _Expectation(Spec):
    on_failure: Literal["fail", "warn"] = "fail"
    """`fail`: the preparation stops; `warn`: it logs a warning and continues."""


class _RowExpectation(_Expectation):
    max_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The fraction of all rows that may break the rule."""


class Range(_RowExpectation):
    """Values are between two bounds. Missing values are ignored."""

    kind: Literal["range"]
    """Values are between two bounds."""
    column: str
    """The column."""
    min: Bound | None = None
    """The smallest valid value."""
    max: Bound | None = None
    """The largest valid value."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("neither min nor max is set; set one of them")
        return self


class Allowed(_RowExpectation):
    """Values are in a list. Missing values are ignored."""

    kind: Literal["allowed"]
    """Values are in a list."""
    column: str
    """The column."""
    values: Annotated[tuple[Bound, ...], Field(min_length=1)]
    """All valid values."""


class Pattern(_RowExpectation):
    """Whole values match a regular expression. Missing values are ignored."""

    kind: Literal["pattern"]
    """Whole values match a regular expression."""
    column: str
    """The column, read as text."""
    regex: str
    """A regular expression in Java's syntax, which Spark uses."""


class Nulls(_RowExpectation):
    """Few values are missing."""

    kind: Literal["nulls"]
    """At most `max_share` of the values are missing; by default none."""
    column: str
    """The column."""


class Condition(_RowExpectation):
    """A boolean expression over the columns of a row is true. Rows where it is null are ignored."""

    kind: Literal["condition"]
    """A Spark SQL expression is true, for example `start <= finish`."""
    sql: str
    """The expression."""


class Unique(_RowExpectation):
    """No two rows have the same values in the columns. Rows with a missing value in one of them are ignored."""

    kind: Literal["unique"]
    """No two rows have the same values in the columns."""
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    """One or several columns."""


class Rows(_Expectation):
    """The number of rows is between two bounds."""

    kind: Literal["rows"]
    """The number of rows is between two bounds."""
    min: Annotated[int, Field(ge=0)] | None = None
    """The smallest number of rows."""
    max: Annotated[int, Field(ge=0)] | None = None
    """The largest number of rows."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("neither min nor max is set; set one of them")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


Expectation = Annotated[Range | Allowed | Pattern | Nulls | Condition | Unique | Rows, Field(discriminator="kind")]
"""One rule that the rows must follow."""


class Split(Spec):
    """Which rows train, validate and test. A row's split follows from a keyed hash of its content."""

    train: Annotated[float, Field(ge=0, le=1)] = 0.8
    """The fraction of rows to train on."""
    validation: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The fraction of rows to validate on, after each epoch."""
    test: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The fraction of rows to test on, once, at the end."""
    by: tuple[str, ...] = ()
    """Columns to group by: rows with the same values in them go to the same split. Default: the whole row."""
    column: str | None = None
    """A column of the data that contains `train`, `validation` or `test`; replaces the fractions and `by`."""
    time: str | None = None
    """A column of dates, timestamps or numbers that orders the rows: the earliest train, the next validate, and the
    latest test. Rows of the same time go to the same split, so the fractions are met as nearly as times permit; a row
    without a time trains."""
    seed: int = 0
    """The key of the hash: another seed gives another split."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = self.train + self.validation + self.test
        if self.column is None and abs(total - 1) > 1e-9:
            raise ValueError(f"the shares add up to {total:g}; they must add up to 1")
        if self.column is None and self.train == 0:
            raise ValueError("train is 0; a model needs rows to train on")
        without_effect = non_default_fields(self, "train", "validation", "test", "by", "seed")
        if self.time is not None and (self.column is not None or non_default_fields(self, "by", "seed")):
            others = ", ".join(non_default_fields(self, "column", "by", "seed"))
            raise ValueError(f"{others} have no effect where split.time orders the rows; remove them, or split.time")
        if self.column is not None and without_effect:
            names = ", ".join(without_effect)
            raise ValueError(f"{names} have no effect where split.column decides; remove them")
        return self

    @property
    def time_shares(self) -> tuple[float, float]:
        """The fractions of the rows, in the order of `time`, before the validation split and before the test split."""
        return self.train, min(self.train + self.validation, 1.0)  # the sum may be rounded up


class Encryption(Spec):
    """Encryption of shards at rest, by AES-256-GCM. The manifest, with vocabularies and statistics, stays readable."""

    key: KeyReference
    """The key. Readers of the dataset need it in the same variable or file, or name another one in their job."""


class Shards(Spec):
    """The size of shards and blocks, and whether they are encrypted."""

    size_mib: Annotated[float, Field(gt=0, le=4096)] = 128
    """The size of a shard, in MiB (64 to 256 suit most disks and object stores). A Spark task holds one or two shards
    in memory."""
    block_mib: Annotated[float, Field(gt=0, le=256)] = 8
    """The size of a record batch, the block that is shuffled in the CPU cache, in MiB."""
    encryption: Encryption | None = None
    """Encrypt each block of each shard. Default: shards are not encrypted."""


class Data(Spec):
    """From sources to shards."""

    sources: Annotated[dict[Identifier, Source], Field(min_length=1, json_schema_extra=IDENTIFIERS_ONLY)]
    """Named inputs; the query refers to them by these names."""
    query: str | None = None
    """Spark SQL over the sources. Default: all columns of the only source."""
    transform: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    """`module:function`, a Python function in a module beside the job file: it receives the query's Spark DataFrame
    (and `transform_options`) and returns another one."""
    transform_options: dict[str, JsonValue] = Field(default_factory=dict)
    """Keyword arguments of the transform."""
    expect: tuple[Expectation, ...] = ()
    """Rules that the rows after the query and the transform must follow."""
    privacy: Privacy = Privacy()
    """How personal data is protected, by column, before anything is fitted, counted or written."""
    auto_features: AutoFeatures | None = Field(default=None, json_schema_extra=INTERNAL)
    """The long form of `features: auto`."""
    features: Annotated[dict[Identifier, Feature], Field(json_schema_extra=allow_short_features)]
    """Name to feature, in the order in which they appear in their tensors. `carat: numeric` is short for
    `carat: {kind: numeric}`. `features: auto` guesses a feature for every column but the label, from the files, as
    `farandole init` does; `{auto: true, notes: {kind: text, length: 64}, id: false}` guesses the others, and leaves
    the column `id` out."""
    label: Annotated[Label, Field(json_schema_extra=allow_label_name)] | None = None
    """The column to predict. `label: price` is short for `label: {column: price}`. A dataset without a label
    can only be used by your own scripts."""
    split: Split = Split()
    """Which rows train, validate and test."""
    shards: Shards = Shards()
    """The size of shards and blocks, and their encryption."""
    output: PathText = "${FARANDOLE_HOME}/datasets/{name}"
    """The dataset directory, a path or a URI such as `s3://bucket/folder/{name}`; `{name}` is the job's name."""
    partitions: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """The number of Spark partitions during preparation; it never changes the result. Default: by the size of the
    input."""
    master: str | None = None
    """Spark's master URL. Default: `local[*]`, all cores of this machine."""
    memory: Annotated[str, Field(pattern=r"^\d+[kmgt]$")] = "2g"
    """The memory of Spark's driver, for example `4g`; in local mode all of Spark runs in it."""

    @model_validator(mode="before")
    @classmethod
    def _expand_shorthand(cls, raw: Any) -> Any:
        return expand_label(expand_features(raw)) if isinstance(raw, dict) else raw

    @field_validator("features")
    @classmethod
    def _require_features(cls, value: dict[str, Feature], info: ValidationInfo) -> dict[str, Feature]:
        if not value and info.data.get("auto_features") is None:
            raise ValueError("there are none; name some, or write `features: auto`")
        return value

    @field_validator("output")
    @classmethod
    def _require_writable(cls, value: str) -> str:
        if value.startswith("package://"):
            raise ValueError("packages are read-only; give a path, or a URI such as s3://BUCKET/FOLDER")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.query is None and len(self.sources) > 1:
            names = ", ".join(self.sources)
            raise ValueError(f"{len(self.sources)} sources ({names}) need a `query` that joins them")
        feature_groups(self.features)
        if self.transform is None and self.transform_options:
            raise ValueError("transform_options has no effect without `transform`; remove it")
        self._check_privacy()
        packed = [name for name, feature in self.features.items() if feature.kind == "text" and feature.mode == "pack"]
        if packed and self.label is not None:
            raise ValueError(
                f"features.{packed[0]}: `mode: pack` joins rows, so a row has no label; remove the label, or use"
                " `mode: pad`"
            )
        return self

    @property
    def is_guessed(self) -> bool:
        """True while features, or the kind of the label, are still to be guessed from the files."""
        return self.auto_features is not None or (self.label is not None and self.label.kind == "auto")

    @property
    def shard_key(self) -> KeyReference | None:
        """The key of the shards; None if they are not encrypted."""
        return self.shards.encryption.key if self.shards.encryption else None

    @property
    def used_columns(self) -> dict[str, str]:
        """Each raw column that the dataset is made from, and the field that refers to it."""
        used = {raw_column(name, feature): f"data.features.{name}" for name, feature in self.features.items()}
        if self.label is not None:
            used.setdefault(self.label.column, "data.label.column")
        for column in self.split.by:
            used.setdefault(column, "data.split.by")
        if self.split.column:
            used.setdefault(self.split.column, "data.split.column")
        if self.split.time:
            used.setdefault(self.split.time, "data.split.time")
        return used

    @property
    def wanted_types(self) -> dict[str, str]:
        """The SQL types that columns of text must become because everything that uses them needs numbers or times."""
        wanted: dict[str, set[str]] = {}
        for name, feature in self.features.items():
            wanted.setdefault(raw_column(name, feature), set()).add(_WANTED_TYPES.get(feature.kind, "string"))
        if self.label is not None:
            wanted.setdefault(self.label.column, set()).add(_WANTED_TYPES.get(self.label.kind, "string"))
        for column, policy in self.privacy.columns.items():
            if isinstance(policy, Generalise):
                wanted.setdefault(column, set()).add("timestamp" if policy.to else "double")
        for rule in self.expect:
            if isinstance(rule, Range) and not any(isinstance(bound, str) for bound in (rule.min, rule.max)):
                wanted.setdefault(rule.column, set()).add("double")
        if self.split.time is not None:
            wanted.setdefault(self.split.time, set()).add("timestamp")
        for column in filter(None, (*self.split.by, self.split.column)):
            wanted.setdefault(column, set()).add("string")
        return {column: min(types) for column, types in wanted.items() if len(types) == 1 and types != {"string"}}

    @property
    def wanted_source_types(self) -> dict[str, str]:
        """The same for the columns of the sources; with a query, `number` for those that it calculates with."""
        if self.transform is not None:
            return {}
        if self.query is None:
            return self.wanted_types
        return dict.fromkeys(calculated_columns(self.query), "number")

    def _check_privacy(self) -> None:
        """Check that the sources keep no personal data back, and that features can use what the policies leave."""
        used, texts = self.used_columns, self.privacy.text_columns
        protected = bool(self.privacy.protected) or self.shards.encryption is not None
        for name, source in self.sources.items():
            if protected and getattr(source, "malformed", None) == "quarantine":
                raise ValueError(
                    f"sources.{name}.malformed: quarantine stores records as they are, without `privacy` and"
                    " `shards.encryption`; use drop"
                )
        for column, policy in self.privacy.columns.items():
            if isinstance(policy, Drop) and column in used:
                field = used[column].removeprefix("data.")
                raise ValueError(f"privacy.columns.{column}: is dropped, yet {field} needs it; choose another policy")
        for name, feature in self.features.items():
            column = raw_column(name, feature)
            if column in texts and feature.kind not in ("categorical", "text"):
                raise ValueError(
                    f"features.{name}: is {feature.kind}, yet privacy.columns.{column} ({texts[column]}) turns its"
                    " values into text; use `kind: categorical`, or generalise the column"
                )
        if self.privacy.k_anonymity is not None and self.auto_features is None:
            for column in self.privacy.k_anonymity.columns:
                if column not in used:
                    raise ValueError(
                        f"privacy.k_anonymity.columns: {column} is not part of the dataset, so it cannot identify"
                        " anybody in it; remove it"
                    )
