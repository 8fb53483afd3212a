from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from farandole.serving.registry.dataset_steps import dataset_step
from farandole.serving.registry.steps import TraceStep


def _manifest(path: Path, **changes: Any) -> dict[str, Any]:
    stat = path.stat()
    source = {"source": "things", "path": str(path), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    return {"digest": "a" * 64, "sources": [source], "split_rule": {"seed": 0, "by": None}, **changes}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "things.csv"
    path.write_text("a\n1\n")
    return path


def _found(step: TraceStep, kind: str) -> TraceStep:
    found = step.find(kind)
    assert found is not None
    return found


def test_query_and_policies_are_shown_as_they_were_applied(file: Path) -> None:
    privacy = {
        "columns": {"name": {"policy": "hash", "length": 16}, "zip": {"policy": "drop"}},
        "k_anonymity": {"k": 5},
    }
    job = {"data": {"output": "/nowhere", "query": " SELECT a FROM things "}}
    step = dataset_step(_manifest(file, privacy=privacy), job, {"train": 2})
    assert step.facts["now"].startswith("cannot be read here (")
    assert step.facts["split"] == {"seed": 0}
    query = _found(step, "query")
    assert query.facts["sql"] == "SELECT a FROM things"
    assert query.name == f"sha256:{hashlib.sha256(b' SELECT a FROM things ').hexdigest()}"
    policies = _found(step, "privacy")
    assert policies.name == "policies for name, zip"
    assert policies.facts == {"name": "hash, length 16", "zip": "drop", "k_anonymity": {"k": 5}}


def test_source_file_is_compared_with_what_was_read(file: Path) -> None:
    manifest = _manifest(file)

    def state() -> str:
        return str(_found(dataset_step(manifest, {}, {}), "file").facts["now"])

    assert state() == "same size and time"
    os.utime(file, ns=(0, 0))
    assert state() == "modified at 1970-01-01T00:00:00+00:00"
    file.write_text("a\n1\n2\n")
    assert state() == "changed: 6 bytes"
    file.unlink()
    assert state() == "not on this machine (No such file or directory)"


def test_digest_is_shown_only_where_it_was_recorded(file: Path) -> None:
    manifest = _manifest(file)
    assert _found(dataset_step(manifest, {}, {}), "file").facts["digest"] == "not recorded at preparation"
    manifest["sources"][0]["xxh3_128"] = "0" * 32
    assert _found(dataset_step(manifest, {}, {}), "file").facts["digest"] == f"xxh3-128:{'0' * 32}"


def test_file_of_an_object_store_is_not_looked_for(file: Path) -> None:
    manifest = _manifest(file)
    manifest["sources"][0]["path"] = "s3://bucket/things.csv"
    assert _found(dataset_step(manifest, {}, {}), "file").facts["now"] == "in an object store, not checked"


def test_missing_job_and_sources_are_gaps(file: Path) -> None:
    step = dataset_step({**_manifest(file), "sources": []}, {}, {})
    assert {gap.kind: gap.missing for gap in step.gaps} == {
        "query": "the run has no job file",
        "source": "the manifest lists no source files",
    }
