"""The steps of a trace from a dataset's manifest to its source files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from farandole.errors import FarandoleError
from farandole.serving.registry.steps import TraceStep, missing_step, present, utc
from farandole.shards import read_manifest
from farandole.storage import is_uri

_NO_DIGEST = "not recorded at preparation"


def dataset_step(manifest: Mapping[str, Any], job: Mapping[str, Any], rows: Mapping[str, int]) -> TraceStep:
    """Return the dataset of a run, with its query, its privacy policies and its source files below.

    Args:
        manifest: The manifest as the run has it, without shards.
        job: The job with all fields; empty if the run has none.
        rows: Rows of each split, as the run has logged them.
    """
    location = job.get("data", {}).get("output")
    digest = str(manifest.get("digest"))
    versions = manifest.get("code_version", {})
    facts = present(
        digest=f"sha256:{digest}",
        rows=dict(rows),
        split=present(**manifest.get("split_rule", {})),
        prepared_by=" ".join(f"{name} {text[:12]}" for name, text in versions.items()),
        now=_present_state(location, digest) if location else None,
    )
    steps = (
        _query_step(job),
        *_transform_steps(manifest),
        _privacy_step(manifest),
        *_source_steps(manifest),
    )
    return TraceStep("dataset", str(location or digest[:8]), facts, steps=steps)


def _present_state(location: str, digest: str) -> str:
    """Return whether the dataset's directory still holds the dataset."""
    try:
        found = read_manifest(location).digest
    except FarandoleError as error:
        return f"cannot be read here ({error})"
    return "unchanged" if found == digest else f"another dataset has taken its place (sha256:{found})"


def _query_step(job: Mapping[str, Any]) -> TraceStep:
    if not job:
        return missing_step("query", "query", "the run has no job file")
    query = job.get("data", {}).get("query")
    if not query:
        return TraceStep("query", "all rows and columns of the source", {})
    digest = hashlib.sha256(query.encode()).hexdigest()
    return TraceStep("query", f"sha256:{digest}", {"sql": query.strip()})


def _transform_steps(manifest: Mapping[str, Any]) -> list[TraceStep]:
    transform = manifest.get("transform")
    if not transform:
        return []
    facts = {name: value for name, value in transform.items() if name != "function"}
    return [TraceStep("transform", str(transform.get("function", "transform")), present(**facts))]


def _privacy_step(manifest: Mapping[str, Any]) -> TraceStep:
    """Return the privacy policies that were applied, without keys."""
    privacy = manifest.get("privacy") or {}
    columns = privacy.get("columns") or {}
    name = f"policies for {', '.join(columns)}" if columns else "no policy for any column"
    facts = {column: _policy_text(policy) for column, policy in columns.items()}
    others = {key: value for key, value in privacy.items() if key != "columns"}
    return TraceStep("privacy", name, {**facts, **present(**others)})


def _policy_text(policy: Mapping[str, Any]) -> str:
    options = [f"{key} {value}" for key, value in policy.items() if key != "policy" and value is not None]
    return ", ".join([str(policy.get("policy")), *options])


def _source_steps(manifest: Mapping[str, Any]) -> list[TraceStep]:
    """Return a step for each source, with its files below."""
    entries = manifest.get("sources") or ()
    if not entries:
        return [missing_step("source", "sources", "the manifest lists no source files")]
    found = []
    for name, files in groupby(entries, key=lambda entry: entry["source"]):
        steps = tuple(_file_step(entry) for entry in files)
        size = sum(step.facts["bytes"] for step in steps)
        found.append(TraceStep("source", name, {"files": len(steps), "bytes": size}, steps=steps))
    return found


def _file_step(entry: Mapping[str, Any]) -> TraceStep:
    digest = entry.get("xxh3_128")
    facts = {
        "bytes": entry["bytes"],
        "modified": utc(entry["mtime_ns"] / 1e9),
        "digest": f"xxh3-128:{digest}" if digest else _NO_DIGEST,
        "now": _file_state(entry),
    }
    return TraceStep("file", entry["path"], facts)


def _file_state(entry: Mapping[str, Any]) -> str:
    """Return whether a source file has the size and time that it had when it was read; its content is not read."""
    if is_uri(entry["path"]):
        return "in an object store, not checked"
    try:
        stat = Path(entry["path"]).stat()
    except OSError as error:
        return f"not on this machine ({error.strerror})"
    if stat.st_size != entry["bytes"]:
        return f"changed: {stat.st_size:,} bytes"
    if stat.st_mtime_ns != entry["mtime_ns"]:
        return f"modified at {utc(stat.st_mtime)}"
    return "same size and time"
