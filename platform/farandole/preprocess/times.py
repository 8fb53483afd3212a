"""Parts of a time, as positions on a circle, as categories or as numbers."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farandole.preprocess.numeric import NumericTransform
from farandole.preprocess.transform import VALUES, ColumnsTransform, Measurements
from farandole.preprocess.values import as_time
from farandole.spec import Numeric, Time
from farandole.spec.features import TimePart

_DAY_US = 24 * 60 * 60 * 10**6
_FRIDAY = 4


def _is_weekend(times: pa.Array) -> pa.Array:
    return pc.greater(pc.day_of_week(times), _FRIDAY).cast(pa.int64())


def _days(times: pa.Array) -> pa.Array:
    return pc.divide(times.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.float64(), safe=False), float(_DAY_US))


_CYCLES: dict[TimePart, tuple[Callable[[pa.Array], pa.Array], int, int]] = {
    "quarter": (pc.quarter, 1, 4),
    "month": (pc.month, 1, 12),
    "week": (pc.iso_week, 1, 53),
    "day": (pc.day, 1, 31),
    "day_of_year": (pc.day_of_year, 1, 366),
    "weekday": (pc.day_of_week, 0, 7),
    "is_weekend": (_is_weekend, 0, 2),
    "hour": (pc.hour, 0, 24),
    "minute": (pc.minute, 0, 60),
    "second": (pc.second, 0, 60),
}
"""The reader of each part, its first value, and the length of its cycle. Weekday 0 is Monday."""
_READERS: dict[TimePart, Callable[[pa.Array], pa.Array]] = {
    "year": pc.year,
    "days": _days,
    **{part: read for part, (read, _, _) in _CYCLES.items()},
}


@cache
def _circle(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sine and cosine of the positions of a cycle, float32 `[length + 1]`; the last, of a missing time, is 0.

    A cycle has at most 366 positions, and a column millions of rows.
    """
    angles = np.arange(length) * (2 * np.pi / length)
    sine, cosine = (np.append(wave(angles), 0).astype(np.float32) for wave in (np.sin, np.cos))
    return sine, cosine


@dataclass(frozen=True)
class TimeTransform(ColumnsTransform):
    """The parts of one time: two float32 each (sine, cosine), or one int32 id each, where 0 is missing."""

    spec: Time

    SPEC = Time

    @property
    def features(self) -> tuple[str, ...]:
        """The names of its columns in the group."""
        return self.spec.columns(self.name)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """The number of ids of each part."""
        if self.spec.encoding == "cyclic":
            return ()
        return tuple(1 + _CYCLES[part][2] for part in self.spec.parts)

    def apply(self, values: pa.Array) -> np.ndarray:
        """Return float32 `[rows, 2 * parts]` (0, 0 where missing) or int32 `[rows, parts]`."""
        times = as_time(self.column, values)
        missing = pc.is_null(times).to_numpy(zero_copy_only=False)
        columns: list[np.ndarray] = []
        for part in self.spec.parts:
            read, first, length = _CYCLES[part]
            position = pc.fill_null(read(times), first).to_numpy(zero_copy_only=False) - first
            if self.spec.encoding == "category":
                columns.append(np.where(missing, 0, position + 1).astype(np.int32))
                continue
            position = np.where(missing, length, position)
            columns += [wave[position] for wave in _circle(length)]
        return np.stack(columns, axis=1)

    def typical(self, raw_type: pa.DataType) -> Any:
        """Return an arbitrary noon."""
        return _noon(raw_type)


@dataclass(frozen=True)
class TimeNumbersTransform(ColumnsTransform):
    """The parts of one time as numbers, each treated as a numeric feature: one float32 each.

    Args:
        parts: One numeric transform for each part, named `NAME_PART`.
    """

    spec: Time
    parts: tuple[NumericTransform, ...] = ()

    SPEC = Time

    def __post_init__(self) -> None:
        if not self.parts:
            spec = Numeric(kind="numeric", scale=self.spec.scale)
            parts = (NumericTransform(f"{self.name}_{part}", self.column, spec) for part in self.spec.parts)
            object.__setattr__(self, "parts", tuple(parts))

    @property
    def features(self) -> tuple[str, ...]:
        """The names of its columns in the group."""
        return tuple(part.name for part in self.parts)

    @property
    def fitted(self) -> bool:
        """True once nothing is left to learn."""
        return all(part.fitted for part in self.parts)

    def observe(self, values: pa.Array) -> dict[str, np.ndarray | pa.Array]:
        """Return each part's numbers; the measure is the part's name."""
        times = as_time(self.column, values)
        named = zip(self.spec.parts, self.parts, strict=True)
        return {name: part.observe(_READERS[name](times))[VALUES] for name, part in named if not part.fitted}

    def learn(self, measurements: Measurements) -> TimeNumbersTransform:
        """Return the transform with the results of the pass for each part.

        Raises:
            DataError: No training row has a time.
        """
        named = zip(self.spec.parts, self.parts, strict=True)
        learned = (
            part if part.fitted else part.learn({VALUES: measurements[name]} if name in measurements else {})
            for name, part in named
        )
        return replace(self, parts=tuple(learned))

    def apply(self, values: pa.Array) -> np.ndarray:
        """Return float32 `[rows, parts]`."""
        times = as_time(self.column, values)
        named = zip(self.spec.parts, self.parts, strict=True)
        return np.concatenate([part.apply(_READERS[name](times)) for name, part in named], axis=1)

    def typical(self, raw_type: pa.DataType) -> Any:
        """Return an arbitrary noon."""
        return _noon(raw_type)

    def to_dict(self) -> dict[str, Any]:
        """Return the transform as plain data, for the manifest."""
        return {**super().to_dict(), "parts": [part.to_dict() for part in self.parts]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TimeNumbersTransform:
        """Restore a fitted transform from the result of `to_dict`."""
        transform = super().from_dict(data)
        return replace(transform, parts=tuple(NumericTransform.from_dict(part) for part in data["parts"]))


def _noon(raw_type: pa.DataType) -> Any:
    noon = datetime.datetime(2024, 1, 1, 12)
    return noon.date() if pa.types.is_date(raw_type) else noon
