"""Renders datasets: one JSON document, or tables."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from farandole.cli.console import Column, make_console, print_table, print_text
from farandole.cli.decoding import Decoder
from farandole.errors import UserError
from farandole.events import format_metric
from farandole.pages.page import format_number, format_time
from farandole.process.atomic import write_atomic
from farandole.process.json_text import json_text
from farandole.shards import LABEL, Dataset, Group, Manifest

_MAX_FILES = 12
_FIRST_VALUES = 8


def show(directory: str, manifest: Manifest, *, as_json: bool) -> None:
    """Show everything that a manifest contains."""
    if as_json:
        print(json_text({"path": str(directory), **manifest.model_dump(mode="json")}, indent=2))
        return
    console = make_console()
    print_text(console, str(directory), style="bold")
    print_text(console, f"digest {manifest.digest}")
    tables = [_splits(manifest), _left_out(manifest), _groups(manifest), _statistics(manifest), _lineage(manifest)]
    for table in [*tables, _expectations(manifest), _privacy(manifest)]:
        if table.rows:
            print_text(console, "")
            print_table(console, table.columns, table.rows, title=table.title)


@dataclass(frozen=True)
class _Table:
    """A table: its title, its columns, and its rows."""

    title: str
    columns: list[Column]
    rows: list[list[str]]


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
    print(json_text({"path": str(directory), "page": str(file)}, indent=2) if as_json else file)


def show_rows(dataset: Dataset, split: str, rows: int, *, decode: bool = False, as_json: bool) -> None:
    """Show the first rows of a split: numbers and ids as they are; images, texts and tensors summarized.

    Args:
        dataset: The dataset.
        split: Name of the split.
        rows: Number of rows.
        decode: Show tokens as text, ids as the values that they stand for, and the label by its class or in its unit.
        as_json: Whether to print a document.
    """
    schema = dataset.manifest.columns
    decoder = Decoder(dataset.manifest) if decode else None
    found: list[dict[str, Any]] = []
    for row in itertools.islice(_rows(dataset, split), rows):
        values: dict[str, Any] = {}
        for group in schema.groups:
            cells = decoder.cells(group, row[group.name]) if decoder is not None else None
            values |= _cells(group, row[group.name]) if cells is None else cells
        if schema.label:
            label = row[LABEL].item()
            values[LABEL] = decoder.label(label) if decoder is not None else label
        found.append(values)
    if as_json:
        print(json_text({"split": split, "rows": found}, indent=2))
        return
    columns = [Column("feature", style="bold")]
    columns += [Column(str(number), is_text=decode, is_number=not decode) for number in range(len(found))]
    lines = [[name, *(_cell(row[name]) for row in found)] for name in (found[0] if found else ())]
    title = f"{split}, the first {len(found)} of {dataset.manifest.rows(split):,} rows"
    print_table(make_console(), columns, lines, title=title)


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
    return format_metric(value) if isinstance(value, float) else str(value)


def show_differences(first: str, second: str, differences: list[dict[str, Any]], *, as_json: bool) -> None:
    """Show the differences between two datasets."""
    if as_json:
        print(json_text({"first": str(first), "second": str(second), "differences": differences}, indent=2))
        return
    if not differences:
        print(f"{first} and {second} have the same content")
        return
    columns = [Column("what", style="bold"), Column(str(first), is_text=True), Column(str(second), is_text=True)]
    rows = [[entry["what"], _short(entry["first"]), _short(entry["second"])] for entry in differences]
    print_table(make_console(), columns, rows)


def _rows(dataset: Dataset, split: str) -> Any:
    reader = dataset.split(split)
    for number, rows in enumerate(reader.block_rows):
        block = reader.block(number)
        for row in range(rows):
            yield {name: values[row] for name, values in block.items()}


def _numbers(*names: str) -> list[Column]:
    return [Column(name, is_number=True) for name in names]


def _splits(manifest: Manifest) -> _Table:
    rows = []
    for split in manifest.row_counts:
        shards = manifest.splits[split]
        size_mb = sum(shard.bytes for shard in shards) / 1e6
        blocks = sum(len(shard.blocks) for shard in shards)
        rows.append([split, f"{manifest.rows(split):,}", str(len(shards)), str(blocks), f"{size_mb:,.1f}"])
    columns = [Column("split", style="bold"), *_numbers("rows", "shards", "record batches", "MB")]
    return _Table("rows", columns, rows)


def _left_out(manifest: Manifest) -> _Table:
    """Return a table of the rows that were left out because they could not be read."""
    rows = []
    for entry in manifest.malformed:
        kept = entry.quarantine.file if entry.quarantine else "nowhere"
        for found in entry.reasons:
            column = f"{found['column']}: " if found["column"] else ""
            first = found["examples"][0]
            position = f"{first['file']}:{first['line']}" if first["line"] else first["file"]
            rows.append([entry.source, column + found["reason"], f"{found['rows']:,}", position, kept])
    columns = [Column("source", style="bold"), Column("reason", is_text=True), *_numbers("rows")]
    return _Table("left out", [*columns, Column("first at"), Column("kept in")], rows)


def _groups(manifest: Manifest) -> _Table:
    rows = []
    for group in manifest.columns.groups:
        features = list(group.features)
        if group.kind == "ids":
            features = [f"{name} ({count})" for name, count in zip(features, group.cardinalities, strict=True)]
        rows.append([group.name, f"{group.dtype}{list(group.shape)}", ", ".join(features)])
    label = manifest.columns.label
    if label is not None:
        classes = f": {', '.join(label.classes)}" if label.classes else ""
        rows.append([LABEL, str(label.dtype), f"{label.column}, {label.kind}{classes}"])
    return _Table("columns", [Column("group", style="bold"), Column("type"), Column("features", is_text=True)], rows)


def _statistics(manifest: Manifest) -> _Table:
    rows = []
    for column, found in manifest.statistics.items():
        if "distinct" in found:
            first = [f"{value} {count:,}" for value, count in found["most_frequent"][:3]]
            more = ["…"] if found["distinct"] > len(first) else []
            values = f"{found['distinct']:,}: {', '.join([*first, *more])}"
            missing = found.get("missing")
            share = "" if missing is None else f"{missing / max(1, found['rows'] + missing):.1%}"
            rows.append([column, share, "", "", "", "", values])
        else:
            numbers = [format_metric(found[key]) if key in found else "" for key in ("min", "p50", "mean", "max")]
            span = f"{format_time(found['earliest'])} to {format_time(found['latest'])}" if "earliest" in found else ""
            rows.append([column, f"{found['missing'] / max(1, found['rows']):.1%}", *numbers, span])
    rows += _tokens(manifest)
    columns = [Column("column", style="bold"), *_numbers("missing", "min", "median", "mean", "max")]
    return _Table("statistics of the training split", [*columns, Column("values", is_text=True)], rows)


def _tokens(manifest: Manifest) -> list[list[str]]:
    """Return a row for each text: how many tokens the training split has."""
    rows = []
    for transform in manifest.preprocessing.get("transforms", []):
        if transform.get("tokens_per_row"):
            each, count = transform["tokens_per_row"], manifest.rows("train")
            packed = transform["spec"].get("mode") == "pack"
            total = count * transform["spec"]["length"] if packed else each * count
            text = f"about {format_number(round(total))} tokens, {each:,.1f} in a text"
            rows.append([f"{transform['name']}: tokens", "", "", "", "", "", text])
    return rows


def _lineage(manifest: Manifest) -> _Table:
    rows = [[entry["source"], entry["path"], f"{entry['bytes'] / 1e6:,.1f}"] for entry in manifest.sources[:_MAX_FILES]]
    if len(manifest.sources) > _MAX_FILES:
        rows.append(["…", f"{len(manifest.sources) - _MAX_FILES} more", ""])
    if manifest.encryption is not None:
        key = manifest.encryption
        rows.append(["encrypted", f"{key.algorithm}; key {key.key}, fingerprint {key.fingerprint}", ""])
    versions = ", ".join(f"{name} {text[:12]}" for name, text in manifest.code_version.items())
    rows.append(["by", versions, ""])
    return _Table("made from", [Column("source", style="bold"), Column("file", is_text=True), *_numbers("MB")], rows)


def _expectations(manifest: Manifest) -> _Table:
    rows = []
    for found in manifest.expectations:
        rule = ", ".join(f"{key} {_short(value)}" for key, value in found["expected"].items() if key != "on_failure")
        broken = f"{found['broken']:,} ({found['share']:.2%})"
        rows.append([rule, broken, "met" if found["passed"] else "not met, warned"])
    columns = [Column("expected", is_text=True), *_numbers("rows that break it"), Column("")]
    return _Table("expectations", columns, rows)


def _privacy(manifest: Manifest) -> _Table:
    rows = []
    for column, policy in manifest.privacy.get("columns", {}).items():
        options = [f"{key} {value}" for key, value in policy.items() if key != "policy" and value is not None]
        rows.append([column, ", ".join([policy["policy"], *options])])
    group = manifest.privacy.get("k_anonymity")
    if group:
        text = f"the smallest of {group['groups']:,} groups has {group['smallest_group']:,} rows"
        left_out = group["suppressed_rows"]
        more = f", {left_out:,} rows were left out" if left_out else ""
        rows.append([", ".join(group["columns"]), text + more])
    return _Table("privacy", [Column("column", style="bold"), Column("policy", is_text=True)], rows)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 160 else text[:157] + "..."
