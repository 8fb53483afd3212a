"""Renders datasets: one JSON document, or tables."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from farandole.errors import UserError
from farandole.process.atomic import write_atomic
from farandole.shards import LABEL, Dataset, Group, Manifest

_MAX_FILES = 12
_FIRST_VALUES = 8


def show(directory: str, manifest: Manifest, *, as_json: bool) -> None:
    """Show everything that a manifest contains."""
    if as_json:
        print(json.dumps({"path": str(directory), **manifest.model_dump(mode="json")}, indent=2))
        return
    console = _console()
    console.print(f"{directory}\ndigest {manifest.digest}", highlight=False)
    console.print(
        _splits(manifest), *_left_out(manifest), _groups(manifest), _statistics(manifest), _lineage(manifest), sep="\n"
    )
    if manifest.expectations:
        console.print(_expectations(manifest))
    if manifest.privacy.get("columns") or manifest.privacy.get("k_anonymity"):
        console.print(_privacy(manifest))


def _console() -> Console:
    """Return a console that prints texts unchanged: values such as `[/b]` or `:smile:` are not markup."""
    return Console(markup=False, emoji=False)


def write_page(directory: str, file: Path, *, as_json: bool) -> None:
    """Write the dataset's page into a file, atomically.

    Raises:
        UserError: The file cannot be written.
    """
    from farandole.pages import dataset_page

    page = dataset_page(directory)
    try:
        write_atomic(file, page)
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror or error}); choose another path") from error
    print(json.dumps({"path": str(directory), "page": str(file)}, indent=2) if as_json else file)


def show_rows(dataset: Dataset, split: str, rows: int, *, as_json: bool) -> None:
    """Show the first rows of a split: numbers and ids as they are; images, texts and tensors summarized."""
    schema = dataset.manifest.columns
    found: list[dict[str, Any]] = []
    for row in itertools.islice(_rows(dataset, split), rows):
        values: dict[str, Any] = {}
        for group in schema.groups:
            values |= _cells(group, row[group.name])
        found.append(values | ({LABEL: row[LABEL].item()} if schema.label else {}))
    if as_json:
        print(json.dumps({"split": split, "rows": found}, indent=2))
        return
    table = Table(
        title=f"{split}, the first {len(found)} of {dataset.manifest.rows(split):,} rows", title_justify="left"
    )
    table.add_column("feature", style="bold")
    for number in range(len(found)):
        table.add_column(str(number), justify="right")
    for name in found[0] if found else ():
        table.add_row(name, *(_cell(row[name]) for row in found))
    _console().print(table)


def _cells(group: Group, values: np.ndarray) -> dict[str, Any]:
    """Return a row's values in a group: each by its feature's name, or a summary by the group's name."""
    if group.kind in ("numbers", "ids"):
        return dict(zip(group.features, values.tolist(), strict=True))
    flat = values.reshape(-1)
    numbers = {"shape": list(values.shape), "min": flat.min().item(), "max": flat.max().item()}
    return {group.name: {**numbers, "first": flat[:_FIRST_VALUES].tolist()}}


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        shape = " x ".join(str(side) for side in value["shape"])
        first = " ".join(_cell(number) for number in value["first"])
        more = " …" if math.prod(value["shape"]) > len(value["first"]) else ""
        return f"[{shape}]\n{_cell(value['min'])} to {_cell(value['max'])}\n{first}{more}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show_differences(first: str, second: str, differences: list[dict[str, Any]], *, as_json: bool) -> None:
    """Show the differences between two datasets."""
    if as_json:
        print(json.dumps({"first": str(first), "second": str(second), "differences": differences}, indent=2))
        return
    if not differences:
        print(f"{first} and {second} have the same content")
        return
    table = Table()
    for column in ("what", str(first), str(second)):
        table.add_column(column, overflow="fold")
    for entry in differences:
        table.add_row(entry["what"], _short(entry["first"]), _short(entry["second"]))
    _console().print(table)


def _rows(dataset: Dataset, split: str) -> Any:
    reader = dataset.split(split)
    for number, rows in enumerate(reader.block_rows):
        block = reader.block(number)
        for row in range(rows):
            yield {name: values[row] for name, values in block.items()}


def _splits(manifest: Manifest) -> Table:
    table = Table("split", title="rows", title_justify="left")
    for column in ("rows", "shards", "record batches", "MB"):
        table.add_column(column, justify="right")
    for split in manifest.row_counts:
        shards = manifest.splits[split]
        size_mb = sum(shard.bytes for shard in shards) / 1e6
        blocks = sum(len(shard.blocks) for shard in shards)
        table.add_row(split, f"{manifest.rows(split):,}", str(len(shards)), str(blocks), f"{size_mb:,.1f}")
    return table


def _left_out(manifest: Manifest) -> list[Table]:
    """Return a table of the rows that were left out because they could not be read, if there are any."""
    if not any(entry.rows for entry in manifest.malformed):
        return []
    table = Table("source", "reason", title="left out", title_justify="left")
    table.add_column("rows", justify="right")
    table.add_column("first at", overflow="fold")
    table.add_column("kept in", overflow="fold")
    for entry in manifest.malformed:
        kept = entry.quarantine.file if entry.quarantine else "nowhere"
        for found in entry.reasons:
            column = f"{found['column']}: " if found["column"] else ""
            first = found["examples"][0]
            position = f"{first['file']}:{first['line']}" if first["line"] else first["file"]
            table.add_row(entry.source, column + found["reason"], f"{found['rows']:,}", position, kept)
    return [table]


def _groups(manifest: Manifest) -> Table:
    table = Table("group", "type", "features", title="columns", title_justify="left")
    for group in manifest.columns.groups:
        kind = f"{group.dtype}{list(group.shape)}"
        features = list(group.features)
        if group.kind == "ids":
            features = [f"{name} ({count})" for name, count in zip(features, group.cardinalities, strict=True)]
        table.add_row(group.name, kind, ", ".join(features))
    label = manifest.columns.label
    if label is not None:
        classes = f": {', '.join(label.classes)}" if label.classes else ""
        table.add_row(LABEL, str(label.dtype), f"{label.column}, {label.kind}{classes}")
    return table


def _statistics(manifest: Manifest) -> Table:
    table = Table("column", title="statistics of the training split", title_justify="left")
    for column in ("missing", "min", "median", "mean", "max", "values"):
        table.add_column(column, justify="left" if column == "values" else "right", overflow="fold")
    for column, found in manifest.statistics.items():
        if "distinct" in found:
            first = [f"{value} {count:,}" for value, count in found["most_frequent"][:3]]
            more = ["…"] if found["distinct"] > len(first) else []
            table.add_row(column, "", "", "", "", "", f"{found['distinct']:,}: {', '.join([*first, *more])}")
        else:
            numbers = [f"{found[key]:,.4g}" if key in found else "" for key in ("min", "p50", "mean", "max")]
            table.add_row(column, f"{found['missing'] / max(1, found['rows']):.1%}", *numbers, "")
    return table


def _lineage(manifest: Manifest) -> Table:
    table = Table("source", "file", title="made from", title_justify="left")
    table.add_column("MB", justify="right")
    for entry in manifest.sources[:_MAX_FILES]:
        table.add_row(entry["source"], entry["path"], f"{entry['bytes'] / 1e6:,.1f}")
    if len(manifest.sources) > _MAX_FILES:
        table.add_row("…", f"{len(manifest.sources) - _MAX_FILES} more", "")
    if manifest.encryption is not None:
        key = manifest.encryption
        table.add_row("encrypted", f"{key.algorithm}; key {key.key}, fingerprint {key.fingerprint}", "")
    versions = ", ".join(f"{name} {text[:12]}" for name, text in manifest.code_version.items())
    table.add_row("by", versions, "")
    return table


def _expectations(manifest: Manifest) -> Table:
    table = Table("expected", title="expectations", title_justify="left")
    table.add_column("rows that break it", justify="right")
    table.add_column("")
    for found in manifest.expectations:
        rule = ", ".join(f"{key} {_short(value)}" for key, value in found["expected"].items() if key != "on_failure")
        broken = f"{found['broken']:,} ({found['share']:.2%})"
        table.add_row(rule, broken, "met" if found["passed"] else "not met, warned")
    return table


def _privacy(manifest: Manifest) -> Table:
    table = Table("column", "policy", title="privacy", title_justify="left")
    for column, policy in manifest.privacy.get("columns", {}).items():
        options = [f"{key} {value}" for key, value in policy.items() if key != "policy" and value is not None]
        table.add_row(column, ", ".join([policy["policy"], *options]))
    group = manifest.privacy.get("k_anonymity")
    if group:
        text = f"the smallest of {group['groups']:,} groups has {group['smallest_group']:,} rows"
        left_out = group["suppressed_rows"]
        table.add_row(", ".join(group["columns"]), text + (f", {left_out:,} rows were left out" if left_out else ""))
    return table


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 160 else text[:157] + "..."
