"""Puts values into plain data by dotted paths: for overrides and for sweeps."""

from __future__ import annotations

from typing import Any

from farandole.errors import SpecError


def set_value(raw: dict[str, Any], path: str, value: Any, said: str) -> None:
    """Set `a.b` in nested mappings and lists; what is missing on the way is made.

    Args:
        raw: The data; changed in place.
        path: Keys, and indexes of lists, with dots between.
        value: The value.
        said: What the user wrote, for errors.

    Raises:
        SpecError: The path leads through a value, or beyond a list.
    """
    *parents, last = path.split(".")
    place: Any = raw
    for depth, key in enumerate(parents):
        index = _index(place, key, said, ".".join(parents[:depth]))
        known = index in place if isinstance(place, dict) else True
        if not known or place[index] is None:
            place[index] = {}
        place = place[index]
    place[_index(place, last, said, ".".join(parents))] = value


def _index(place: Any, key: str, said: str, path: str) -> Any:
    """What `key` is called in a mapping, which may not have it yet, or in a list, which must."""
    if isinstance(place, dict):
        return key
    if isinstance(place, list):
        if not (key.isascii() and key.isdecimal()) or int(key) >= len(place):
            raise SpecError(f"{said}: {path} is a list of {len(place)}; {key} is not an index of it")
        return int(key)
    raise SpecError(f"{said}: {path} is the value {place!r}, which has no field {key}")
