"""The HTML report of a dataset, made from its manifest."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from farandole.pages.descriptions import describe_split, describe_transform
from farandole.pages.page import Page, format_number, format_time, render
from farandole.shards import Manifest, read_manifest
from farandole.spec import SPLITS

_MAX_ITEMS = 50
"""Maximum number of files or values to list; the rest is counted."""
_OTHER_SECTIONS = {
    "transform": "Your own function",
    "expectations": "Expectations",
    "malformed": "Malformed rows",
    "privacy": "Privacy",
    "encryption": "Encryption",
}
"""Parts of a manifest that are shown unchanged, with their titles."""
CHART_WIDTH, CHART_HEIGHT = 300, 72
"""Size of a histogram, in units of its drawing."""
_MAX_BARS = 10
"""Values of a column that the page shows; the manifest lists all classes of a label."""
_MIN_BAR_HEIGHT = 1.0
"""Height of the bar of a bin with few values, so that it is visible."""


def dataset_page(directory: str | Path) -> Page:
    """Return the report of the dataset in `directory`; equal manifests give equal reports.

    Raises:
        DatasetError: The manifest is missing or damaged.
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
        "others": [(title, _convert(raw[key])) for key, title in _OTHER_SECTIONS.items() if raw.get(key)],
        "sources": [_source(entry) for entry in raw["sources"][:_MAX_ITEMS]],
        "more_sources": max(0, len(raw["sources"]) - _MAX_ITEMS),
        "code_version": sorted(manifest.code_version.items()),
        "request": manifest.request,
        "chart": {"width": CHART_WIDTH, "height": CHART_HEIGHT},
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
    """Return the distribution of each raw column, and the transforms that use it."""
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
    """Return the statistics of a column as numbers, and as bars: `bins` for numbers, `values` for categories."""
    view: dict[str, Any] = {"numbers": [], "bins": [], "values": [], "summary": "", "edges": []}
    if "distinct" in found:
        frequent = found.get("most_frequent", [])[:_MAX_BARS]
        lengths = bar_lengths([count for _, count in frequent])
        if "missing" in found:
            view["numbers"].append(_missing(found["missing"], found["rows"] + found["missing"]))
        view["numbers"] += [
            ("rows with a value", format_number(found["rows"])),
            ("distinct values", format_number(found["distinct"])),
        ]
        view["values"] = [
            {"value": str(value), "count": count, "length": length}
            for (value, count), length in zip(frequent, lengths, strict=True)
        ]
        view["more"] = found["distinct"] - len(frequent)
    elif found:
        view["numbers"] = [_missing(found.get("missing", 0), found.get("rows", 0))]
        view["numbers"] += [(word, format_time(found[word])) for word in ("earliest", "latest") if word in found]
        view["numbers"] += [(title, format_number(found[key])) for key, title in _NUMBERS.items() if key in found]
        bins = found.get("histogram")
        if bins and bins["counts"]:
            view["bins"] = histogram_bars(bins["edges"], bins["counts"])
            view["edges"] = [format_number(bins["edges"][0]), format_number(bins["edges"][-1])]
            view["outside"] = [(word, bins[word]) for word in ("below", "above") if bins.get(word)]
            view["summary"] = f"{sum(bins['counts']):,} values between {view['edges'][0]} and {view['edges'][1]}"
    return view


def _missing(missing: int, rows: int) -> tuple[str, str]:
    return "missing", f"{missing:,} of {rows:,} ({missing / max(1, rows):.1%})"


_NUMBERS = {"min": "minimum", "p50": "median", "mean": "mean", "deviation": "deviation", "max": "maximum"}


def _source(entry: dict[str, Any]) -> dict[str, Any]:
    """Describe a source file; size and time are known only for some kinds of storage."""
    changed = ""
    if isinstance(entry.get("mtime_ns"), int):
        moment = datetime.datetime.fromtimestamp(entry["mtime_ns"] // 10**9, datetime.UTC)
        changed = f"{moment:%Y-%m-%d %H:%M} UTC"
    size = _size(entry["bytes"]) if isinstance(entry.get("bytes"), int) else ""
    return {"source": entry.get("source", ""), "path": entry.get("path", ""), "size": size, "changed": changed}


def _convert(value: Any) -> Any:
    """Convert nested data for the template, to a `table`, `pairs`, `entries` or `text`."""
    if isinstance(value, dict):
        present = {key: inner for key, inner in value.items() if inner is not None and inner != {} and inner != []}
        return {"pairs": [(key.replace("_", " "), _convert(present[key])) for key in _ordered(present)]}
    if isinstance(value, list | tuple):
        if value and all(isinstance(row, dict) for row in value):
            heads = _ordered(key for row in value for key in row)
            rows = [[_convert(row.get(head)) for head in heads] for row in value]
            return {"table": {"heads": [head.replace("_", " ") for head in heads], "rows": rows}}
        if not any(isinstance(inner, dict | list | tuple) for inner in value):
            more = [f"and {len(value) - _MAX_ITEMS:,} more"] if len(value) > _MAX_ITEMS else []
            return {"text": ", ".join([*(_convert(inner)["text"] for inner in value[:_MAX_ITEMS]), *more])}
        return {"entries": [_convert(inner) for inner in value[:_MAX_ITEMS]]}
    if isinstance(value, bool):
        return {"text": "yes" if value else "no"}
    if isinstance(value, int | float):
        return {"text": format_number(value)}
    return {"text": "" if value is None else value if isinstance(value, str) else json.dumps(value)}


def _ordered(keys: Iterable[str]) -> list[str]:
    """Return each key once, those that identify an entry first."""
    return sorted(dict.fromkeys(keys), key=lambda key: _FIRST.index(key) if key in _FIRST else len(_FIRST))


_FIRST = ("source", "column", "expected", "passed", "policy", "kind", "reason", "value", "rows", "broken", "share")


def _size(size_bytes: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return f"{size_bytes:,} bytes"


def histogram_bars(edges: Sequence[float], counts: Sequence[int]) -> list[dict[str, Any]]:
    """Compute the bars of a histogram.

    Args:
        edges: Ascending edges of the bins, one more than there are counts.
        counts: Number of values in each bin.

    Returns:
        For each bin its rectangle (`x`, `y`, `width`, `height`) and its description (`title`).
    """
    span, highest = edges[-1] - edges[0], max(1, *counts)
    bars = []
    for start, stop, count in zip(edges[:-1], edges[1:], counts, strict=True):
        height = max(_MIN_BAR_HEIGHT, CHART_HEIGHT * count / highest) if count else 0.0
        bars.append(
            {
                "x": round(CHART_WIDTH * (start - edges[0]) / span, 2),
                "y": round(CHART_HEIGHT - height, 2),
                "width": round(max(CHART_WIDTH * (stop - start) / span - 1, 0.5), 2),
                "height": round(height, 2),
                "title": f"{format_number(start)} to {format_number(stop)}: {count:,}",
            }
        )
    return bars


def bar_lengths(counts: Sequence[int]) -> list[float]:
    """Return the length of each bar, in percent of the longest."""
    longest = max(1, *counts) if counts else 1
    return [round(100 * count / longest, 2) for count in counts]
