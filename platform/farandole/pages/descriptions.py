"""Descriptions of fitted preprocessing and of the split rule, in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from farandole.pages.page import format_number
from farandole.spec import SPLITS


def describe_transform(transform: dict[str, Any]) -> list[str]:
    """Describe, step by step, how a transform changes a raw value.

    Args:
        transform: One of the manifest's `preprocessing.transforms`.
    """
    describe = _DESCRIPTIONS.get(transform["kind"])
    return describe(transform) if describe else _describe_unknown(transform)


def describe_split(rule: dict[str, Any]) -> str:
    """Describe how rows were assigned to splits; return an empty string if the manifest does not say."""
    if rule.get("column"):
        return f"The column {rule['column']} determines the split of a row."
    shares = [f"{name} {format_number(100 * rule[name])}%" for name in SPLITS if rule.get(name)]
    if not shares:
        return ""
    by = ", ".join(rule.get("by") or ())
    what = f"of {by}: rows with equal values share a split" if by else "of the whole row"
    return f"{', '.join(shares)}, by a hash {what}. Seed {rule.get('seed', 0)}."


def _numeric(transform: dict[str, Any]) -> list[str]:
    spec, steps = transform["spec"], []
    fill = transform.get("fill")
    if fill is None:
        steps.append("a missing value is an error")
    else:
        source = f", the {spec['impute']}" if isinstance(spec["impute"], str) else ""
        steps.append(f"a missing value becomes {format_number(fill)}{source}")
    if spec.get("indicator"):
        steps.append(f"{transform['name']}_missing marks missing values")
    bounds = [
        f"{word} {format_number(transform[side])}"
        for side, word in (("lower", "from"), ("upper", "up to"))
        if transform.get(side) is not None
    ]
    if bounds:
        steps.append(f"clipped {' '.join(bounds)}")
    if spec.get("log"):
        steps.append("sign(x) · log(1 + |x|)")
    offset, factor = transform.get("offset"), transform.get("factor")
    if spec.get("scale") != "none" and offset is not None and factor is not None:
        scaled = (
            f"(x - {format_number(offset)}) / {format_number(1 / factor)}" if factor else "a constant: 0 everywhere"
        )
        steps.append(f"{_SCALES.get(spec['scale'], spec['scale'])}: {scaled}")
    return steps


_SCALES = {"standard": "mean 0, deviation 1", "minmax": "0 to 1", "robust": "median 0, quartiles 1 apart"}


def _vocabulary(transform: dict[str, Any]) -> list[str]:
    spec, size = transform["spec"], len(transform["vocabulary"])
    rare = f", those seen at least {spec['min_count']:,} times" if spec.get("min_count", 1) > 1 else ""
    if spec.get("encoding") == "onehot":
        return [f"a column of 0 and 1 for each of {size:,} known values{rare}", "and one for a missing value"]
    return [f"an id for each of {size:,} known values{rare}", "0 is unknown, 1 is missing"]


def _hash(transform: dict[str, Any]) -> list[str]:
    return [f"hashed to one of {transform['spec']['buckets']:,} ids", "1 is missing"]


def _bucket(transform: dict[str, Any]) -> list[str]:
    boundaries = transform["boundaries"]
    what = "a column of 0 and 1" if transform["spec"].get("encoding") == "onehot" else "an id"
    shown = ", ".join(format_number(boundary) for boundary in boundaries[:_MAX_BOUNDARIES])
    more = ", …" if len(boundaries) > _MAX_BOUNDARIES else ""
    return [f"{what} for each of {len(boundaries) + 1} intervals", f"bounds: {shown}{more}"]


_MAX_BOUNDARIES = 12


def _tensor(transform: dict[str, Any]) -> list[str]:
    shape = " x ".join(str(side) for side in transform["spec"]["shape"])
    return [f"{transform['spec']['dtype']} [{shape}], as it is"]


def _text(transform: dict[str, Any]) -> list[str]:
    spec = transform["spec"]
    steps = [f"tokens by {spec['tokenizer']}, learned on the training split"]
    if spec["mode"] == "pack":
        return [*steps, f"all texts concatenated, in windows of {spec['length']:,} tokens"]
    longer = {"end": "is cut at its end", "start": "is cut at its start", "error": "is an error"}[spec["truncate"]]
    return [*steps, f"a window of {spec['length']:,} tokens; a longer text {longer}"]


def _image(transform: dict[str, Any]) -> list[str]:
    spec = transform["spec"]
    height, width = spec["size"]
    return [f"{spec['mode']}, {height} x {width} pixels; other proportions: {spec['fit']}"]


def _time(transform: dict[str, Any]) -> list[str]:
    spec = transform["spec"]
    parts = ", ".join(part.replace("_", " ") for part in spec["parts"])
    how = {
        "cyclic": "sine and cosine of each",
        "category": "an id for each; 0 is missing",
        "number": f"a number for each, scaled: {spec.get('scale')}; a missing one becomes the median",
    }[spec["encoding"]]
    return [parts, how]


def _describe_unknown(transform: dict[str, Any]) -> list[str]:
    """List the options of a transform that has no description of its kind."""
    spec = transform.get("spec", {})
    options = {
        key: value for key, value in spec.items() if value not in (None, False) and key not in ("kind", "column")
    }
    return [transform["kind"], *(f"{key}: {_abbreviate(value)}" for key, value in options.items())]


def _abbreviate(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"


_DESCRIPTIONS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "numeric": _numeric,
    "vocabulary": _vocabulary,
    "hash": _hash,
    "bucket": _bucket,
    "text": _text,
    "image": _image,
    "time": _time,
    "time numbers": _time,
    "tensor": _tensor,
}
