"""The page of a dataset: all that its manifest tells."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from farandole.pages import chart
from farandole.pages.descriptions import describe_split, describe_transform
from farandole.pages.page import Page, number, render
from farandole.shards import Manifest, read_manifest
from farandole.spec import SPLITS

_MOST_SHOWN = 50
"""Files and vocabulary entries beyond it are only counted."""
_OTHER_SECTIONS = {
    "transform": "Your own function",
    "expectations": "Expectations",
    "malformed": "Malformed rows",
    "privacy": "Privacy",
    "encryption": "Encryption",
}
"""Parts of a manifest that are shown as they are, under a title."""


def dataset_page(directory: str | Path) -> Page:
    """The page of the dataset in `directory`; equal manifests give equal pages.

    Raises:
        DatasetError: There is no manifest, or it is damaged.
    """
    manifest = read_manifest(directory)
    return render("dataset.html.j2", {"name": Path(directory).name, **_view(manifest)})


def _view(manifest: Manifest) -> dict[str, Any]:
    raw = manifest.model_dump(mode="json")
    splits = _splits(manifest)
    return {
        "digest": manifest.digest,
        "format_version": manifest.format_version,
        "splits": splits,
        "num_rows": sum(split["rows"] for split in splits),
        "size": _size(sum(split["bytes"] for split in splits)),
        "row_bytes": manifest.columns.row_bytes,
        "groups": [_group(group) for group in raw["columns"]["groups"]],
        "label": manifest.columns.label,
        "columns": _columns(manifest),
        "split_rule": describe_split(manifest.split_rule),
        "others": [(title, _plain(raw[key])) for key, title in _OTHER_SECTIONS.items() if raw.get(key)],
        "sources": [_source(entry) for entry in raw["sources"][:_MOST_SHOWN]],
        "more_sources": max(0, len(raw["sources"]) - _MOST_SHOWN),
        "code_version": sorted(manifest.code_version.items()),
        "request": manifest.request,
        "chart": {"width": chart.WIDTH, "height": chart.HEIGHT},
    }


def _splits(manifest: Manifest) -> list[dict[str, Any]]:
    rows = manifest.row_counts
    total = max(1, sum(rows.values()))
    return [
        {
            "name": split,
            "rows": rows[split],
            "share": f"{rows[split] / total:.1%}",
            "shards": len(shards),
            "blocks": sum(len(shard.blocks) for shard in shards),
            "bytes": sum(shard.bytes for shard in shards),
            "size": _size(sum(shard.bytes for shard in shards)),
        }
        for split in SPLITS
        for shards in [manifest.splits.get(split, ())]
    ]


def _group(group: dict[str, Any]) -> dict[str, Any]:
    features = list(group["features"])
    if group["cardinalities"] and len(group["cardinalities"]) == len(features):
        features = [f"{name} ({count:,} ids)" for name, count in zip(features, group["cardinalities"], strict=True)]
    shape = " x ".join(str(side) for side in group["shape"])
    return {
        "name": group["name"],
        "kind": group["kind"],
        "type": f"{group['value_type']} [{shape}]",
        "features": features,
    }


def _columns(manifest: Manifest) -> list[dict[str, Any]]:
    """A card for each raw column: how it is distributed, and what becomes of it."""
    transforms = manifest.preprocessing.get("transforms", [])
    label = manifest.columns.label
    names = [transform.get("column", transform["name"]) for transform in transforms]
    names += [label.column] if label else []
    names += list(manifest.statistics)
    return [
        {
            "name": name,
            "is_label": label is not None and name == label.column,
            "becomes": [
                {"name": transform["name"], "kind": transform["kind"], "steps": describe_transform(transform)}
                for transform in transforms
                if transform.get("column", transform["name"]) == name
            ],
            **_statistics(manifest.statistics.get(name, {})),
        }
        for name in dict.fromkeys(names)
    ]


def _statistics(found: dict[str, Any]) -> dict[str, Any]:
    """A column's statistics as numbers to list, and as bars: `bins` for numbers, `values` for categories."""
    view: dict[str, Any] = {"numbers": [], "bins": [], "values": [], "summary": "", "edges": []}
    if "distinct" in found:
        frequent = found.get("most_frequent", [])
        lengths = chart.shares([count for _, count in frequent])
        view["numbers"] = [("rows with a value", number(found["rows"])), ("distinct values", number(found["distinct"]))]
        view["values"] = [
            {"value": str(value), "count": count, "length": length}
            for (value, count), length in zip(frequent, lengths, strict=True)
        ]
        view["more"] = found["distinct"] - len(frequent)
    elif found:
        rows, missing = found.get("rows", 0), found.get("missing", 0)
        view["numbers"] = [("missing", f"{missing:,} of {rows:,} ({missing / max(1, rows):.1%})")]
        view["numbers"] += [(title, number(found[key])) for key, title in _NUMBERS.items() if key in found]
        bins = found.get("histogram")
        if bins and bins["counts"]:
            view["bins"] = chart.histogram_bars(bins["edges"], bins["counts"])
            view["edges"] = [number(bins["edges"][0]), number(bins["edges"][-1])]
            view["outside"] = [(word, bins[word]) for word in ("below", "above") if bins.get(word)]
            view["summary"] = f"{sum(bins['counts']):,} values between {view['edges'][0]} and {view['edges'][1]}"
    return view


_NUMBERS = {"min": "least", "p50": "median", "mean": "mean", "deviation": "deviation", "max": "greatest"}


def _source(entry: dict[str, Any]) -> dict[str, Any]:
    """A file that was read; what is known of it depends on where it lay."""
    changed = ""
    if isinstance(entry.get("mtime_ns"), int):
        moment = datetime.datetime.fromtimestamp(entry["mtime_ns"] // 10**9, datetime.UTC)
        changed = f"{moment:%Y-%m-%d %H:%M} UTC"
    size = _size(entry["bytes"]) if isinstance(entry.get("bytes"), int) else ""
    return {"source": entry.get("source", ""), "path": entry.get("path", ""), "size": size, "changed": changed}


def _plain(value: Any) -> Any:
    """Data of any make as what the template can draw: `table`, `pairs`, `entries` or `text`."""
    if isinstance(value, dict):
        told = {key: inner for key, inner in value.items() if inner is not None and inner != {} and inner != []}
        return {"pairs": [(key.replace("_", " "), _plain(told[key])) for key in _ordered(told)]}
    if isinstance(value, list | tuple):
        if value and all(isinstance(row, dict) for row in value):
            heads = _ordered(key for row in value for key in row)
            rows = [[_plain(row.get(head)) for head in heads] for row in value]
            return {"table": {"heads": [head.replace("_", " ") for head in heads], "rows": rows}}
        if not any(isinstance(inner, dict | list | tuple) for inner in value):
            more = [f"and {len(value) - _MOST_SHOWN:,} more"] if len(value) > _MOST_SHOWN else []
            return {"text": ", ".join([*(_plain(inner)["text"] for inner in value[:_MOST_SHOWN]), *more])}
        return {"entries": [_plain(inner) for inner in value[:_MOST_SHOWN]]}
    if isinstance(value, bool):
        return {"text": "yes" if value else "no"}
    if isinstance(value, int | float):
        return {"text": number(value)}
    return {"text": "" if value is None else value if isinstance(value, str) else json.dumps(value)}


def _ordered(keys: Iterable[str]) -> list[str]:
    """Each key once, what says of what the rest is told first."""
    return sorted(dict.fromkeys(keys), key=lambda key: _FIRST.index(key) if key in _FIRST else len(_FIRST))


_FIRST = ("source", "column", "expected", "passed", "policy", "kind", "reason", "value", "rows", "broken", "share")


def _size(size_bytes: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return f"{size_bytes:,} bytes"
