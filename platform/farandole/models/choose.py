"""Finds the group that a builder for one kind of data reads."""

from __future__ import annotations

from farandole.errors import ModelError
from farandole.shards import Group, Schema


def require_single_group(schema: Schema, kind: str, builder: str) -> Group:
    """The one group of a kind, where nothing else but its mask stands beside it.

    Args:
        schema: The columns of the dataset.
        kind: What the builder reads.
        builder: Its name, for the error.

    Raises:
        ModelError: There are others, or none.
    """
    groups = [group for group in schema.groups if group.kind != "mask"]
    if len(groups) == 1 and groups[0].kind == kind:
        return groups[0]
    found = ", ".join(f"{group.name} ({group.kind})" for group in groups)
    raise ModelError(
        f"model.builder: {builder} reads one group, of kind {kind}, and the dataset has {found}; use"
        " farandole.models.fusion for several, or remove features"
    )
