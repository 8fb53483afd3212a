"""What a checkpoint belongs to, and in what another training differs from it."""

from __future__ import annotations

import json
from typing import Any

_SHOWN = 5
_LONGEST = 60
_ABSENT = object()


def list_differences(was: Any, now: Any) -> list[str]:
    """The fields in which two identities differ, as in `model.options.hidden was [128, 64], now [256]`.

    Args:
        was: The identity of the checkpoint: nested mappings of plain values.
        now: That of this training.
    """
    before, after = _flat(was), _flat(now)
    return [
        f"{name or 'it'} was {_shown(before.get(name, _ABSENT))}, now {_shown(after.get(name, _ABSENT))}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name, _ABSENT) != after.get(name, _ABSENT)
    ]


def summarize(texts: list[str]) -> str:
    """The first few, and how many more there are."""
    more = f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, child in value.items():
        flat |= _flat(child, f"{prefix}.{name}" if prefix else str(name))
    return flat


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "not there"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
