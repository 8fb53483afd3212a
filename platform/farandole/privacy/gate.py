"""Whether a dataset was protected as a job demands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farandole.spec import Allow, Privacy


def missing_policies(wanted: Privacy, recorded: Mapping[str, Any]) -> list[str]:
    """What a job demands and a dataset lacks, one line for each; empty if it may be trained on.

    Args:
        wanted: The job's `data.privacy`.
        recorded: The `privacy` part of the dataset's manifest.
    """
    applied = recorded.get("columns", {})
    lacking = []
    for column, policy in wanted.columns.items():
        if isinstance(policy, Allow):
            continue
        asked = policy.model_dump(mode="json")
        found = applied.get(column)
        if found != asked:
            lacking.append(
                f"data.privacy.columns.{column}: the job demands {_told(asked)}, the dataset has {_told(found)}"
            )
    group = wanted.k_anonymity
    if group is not None and group.k is not None:
        measured = recorded.get("k_anonymity") or {}
        same = sorted(measured.get("columns", ())) == sorted(group.columns)
        if not same or measured.get("smallest_group", 0) < group.k:
            found_k = f"groups of {measured['smallest_group']}" if same else "no such measurement"
            lacking.append(
                f"data.privacy.k_anonymity: the job demands groups of {group.k} over {', '.join(group.columns)}, the"
                f" dataset has {found_k}"
            )
    return lacking


def _told(policy: Mapping[str, Any] | None) -> str:
    """A policy in words: `generalise (width 10)`."""
    if policy is None:
        return "no policy"
    options = ", ".join(f"{key} {value}" for key, value in policy.items() if key != "policy" and value is not None)
    return f"{policy['policy']} ({options})" if options else str(policy["policy"])
