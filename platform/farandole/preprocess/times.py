"""Parts of a time, as places on a circle or as categories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farandole.preprocess.values import as_time
from farandole.spec import Time
from farandole.spec.feature import Part

_PARTS: dict[Part, tuple[Callable[[pa.Array], pa.Array], int, int]] = {
    "month": (pc.month, 1, 12),
    "day": (pc.day, 1, 31),
    "day_of_year": (pc.day_of_year, 1, 366),
    "weekday": (pc.day_of_week, 0, 7),
    "hour": (pc.hour, 0, 24),
    "minute": (pc.minute, 0, 60),
}
"""How to read each part, its first value, and the length of its cycle. Weekday 0 is Monday."""


@dataclass(frozen=True)
class TimeTransform:
    """The parts of one time: two float32 each (sine, cosine), or one int32 id each, where 0 is missing."""

    name: str
    column: str
    spec: Time

    fitted = True

    @property
    def group(self) -> str:
        """The group that it belongs to."""
        return self.spec.group or ("dense" if self.spec.encoding == "cyclic" else "categorical")

    @property
    def features(self) -> tuple[str, ...]:
        """The names of its columns in the group."""
        names = [f"{self.name}_{part}" for part in self.spec.parts]
        if self.spec.encoding == "category":
            return tuple(names)
        return tuple(f"{name}_{wave}" for name in names for wave in ("sin", "cos"))

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """How many ids each part has."""
        if self.spec.encoding == "cyclic":
            return ()
        return tuple(1 + _PARTS[part][2] for part in self.spec.parts)

    def apply(self, values: pa.Array) -> np.ndarray:
        """float32 `[rows, 2 * parts]` (0, 0 where missing) or int32 `[rows, parts]`."""
        times = as_time(self.column, values)
        missing = pc.is_null(times).to_numpy(zero_copy_only=False)
        columns: list[np.ndarray] = []
        for part in self.spec.parts:
            read, first, length = _PARTS[part]
            place = pc.fill_null(read(times), first).to_numpy(zero_copy_only=False) - first
            if self.spec.encoding == "category":
                columns.append(np.where(missing, 0, place + 1).astype(np.int32))
                continue
            angle = place * (2 * np.pi / length)
            columns += [np.where(missing, 0, wave(angle)).astype(np.float32) for wave in (np.sin, np.cos)]
        return np.stack(columns, axis=1)

    def to_dict(self) -> dict[str, Any]:
        """As data, for the manifest."""
        return {"name": self.name, "column": self.column, "spec": self.spec.model_dump(mode="json")}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TimeTransform:
        """What `to_dict` was made of."""
        return cls(data["name"], data["column"], Time.model_validate(data["spec"]))
