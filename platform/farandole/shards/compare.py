"""Differences between two datasets."""

from __future__ import annotations

from typing import Any

from farandole.shards.manifest import Manifest


def compare(first: Manifest, second: Manifest) -> list[dict[str, Any]]:
    """Return the differences as `{"what", "first", "second"}`; none if the datasets have the same content.

    For datasets of the same content, different sources or code versions are not listed: they gave the same bytes.
    """
    if first.digest == second.digest:
        return []
    sides = [_facts(manifest) for manifest in (first, second)]
    found = [
        {"what": what, "first": sides[0].get(what), "second": sides[1].get(what)}
        for what in dict.fromkeys([*sides[0], *sides[1]])
    ]
    return [entry for entry in found if entry["first"] != entry["second"]]


def _facts(manifest: Manifest) -> dict[str, Any]:
    """Return what is compared, by name."""
    return {
        "digest": manifest.digest,
        **{f"rows.{split}": manifest.rows(split) for split in manifest.splits},
        **{f"groups.{group.name}": list(group.features) for group in manifest.columns.groups},
        "label": manifest.columns.label.model_dump() if manifest.columns.label else None,
        **{f"preprocessing.{entry.get('name')}": entry for entry in manifest.preprocessing.get("transforms", [])},
        **{f"statistics.{column}": found for column, found in manifest.statistics.items()},
        "split_rule": manifest.split_rule,
        "code_version": manifest.code_version,
    }
