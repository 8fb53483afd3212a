"""Short forms of `data.features` and `data.label`, and their expansion to the long ones."""

from __future__ import annotations

from typing import Any

from farandole.spec.base import Spec

SIMPLE_KINDS = ("numeric", "categorical", "bucket")
"""The kinds of features that need no further field."""


class AutoFeatures(Spec):
    """Features that are guessed from the files: one for each column that is not named otherwise."""

    leave_out: tuple[str, ...] = ()
    """Columns that become no feature. `features: {auto: true, id: false}` is short for this."""


def expand_features(raw: dict[str, Any]) -> dict[str, Any]:
    """Replace the short forms of `features` in the `data` part of a job file.

    Args:
        raw: The `data` part; not changed.
    """
    features = raw.get("features")
    if features == "auto":
        return {**raw, "features": {}, "auto_features": raw.get("auto_features") or {}}
    if not isinstance(features, dict):
        return raw
    expanded = {name: {"kind": spec} if isinstance(spec, str) else spec for name, spec in features.items()}
    if features.get("auto") not in (True, False):
        return {**raw, "features": expanded}
    del expanded["auto"]
    if features["auto"] is False:
        return {**raw, "features": expanded}
    left_out = [name for name, spec in expanded.items() if spec is False]
    kept = {name: spec for name, spec in expanded.items() if spec is not False}
    return {**raw, "features": kept, "auto_features": {"leave_out": left_out}}


def expand_label(raw: dict[str, Any]) -> dict[str, Any]:
    """Replace the short form of `label` in the `data` part of a job file.

    Args:
        raw: The `data` part; not changed.
    """
    label = raw.get("label")
    return {**raw, "label": {"column": label}} if isinstance(label, str) else raw


def allow_short_features(schema: dict[str, Any]) -> None:
    """Add the short forms to the JSON Schema of `features`."""
    long = {key: schema.pop(key) for key in ("additionalProperties", "patternProperties", "type") if key in schema}
    long["additionalProperties"] = False
    simple = [{"enum": list(SIMPLE_KINDS)}, {"type": "boolean"}]
    long["patternProperties"] = {
        pattern: {"anyOf": [feature, *simple]} for pattern, feature in long.get("patternProperties", {}).items()
    }
    schema["anyOf"] = [{"const": "auto"}, long]


def allow_label_name(schema: dict[str, Any]) -> None:
    """Add the short form to the JSON Schema of `label`."""
    reference = {key: schema.pop(key) for key in ("$ref", "allOf") if key in schema}
    schema["anyOf"] = [{"type": "string"}, reference]
