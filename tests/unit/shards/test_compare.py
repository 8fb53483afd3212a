"""Differences between two datasets."""

from __future__ import annotations

from pathlib import Path

from farandole.shards import Manifest, compare

Written = tuple[Path, Manifest]


def test_same_content_has_no_differences_even_from_other_sources(dataset: Written) -> None:
    _, manifest = dataset
    assert compare(manifest, manifest.model_copy(update={"sources": (), "request": "1" * 64})) == []


def test_only_differences_are_listed(dataset: Written) -> None:
    _, manifest = dataset
    group = manifest.columns.groups[0].model_copy(update={"features": ("a", "b", "z")})
    columns = manifest.columns.model_copy(update={"groups": (group, *manifest.columns.groups[1:])})
    splits = {**manifest.splits, "train": manifest.splits["train"][:1]}
    other = manifest.model_copy(update={"digest": "0" * 64, "columns": columns, "splits": splits})
    assert compare(manifest, other) == [
        {"what": "digest", "first": manifest.digest, "second": "0" * 64},
        {"what": "rows.train", "first": 12, "second": 7},
        {"what": "groups.dense", "first": ["a", "b", "c"], "second": ["a", "b", "z"]},
    ]


def test_missing_entry_is_none_on_its_side(dataset: Written) -> None:
    _, manifest = dataset
    other = manifest.model_copy(update={"digest": "0" * 64, "statistics": {}})
    (_, statistics) = compare(manifest, other)
    assert statistics == {"what": "statistics.a", "first": manifest.statistics["a"], "second": None}
