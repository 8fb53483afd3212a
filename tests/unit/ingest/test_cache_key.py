from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farandole.ingest.cache_key import code_version, compute_cache_key
from farandole.ingest.sources.files import find_files
from tests.support.ingest_inputs import MakeJob, Write

Digest = Callable[..., str]


@pytest.fixture
def digest(write: Write, make_job: MakeJob) -> Digest:
    write()

    def digest(data: dict[str, Any] | None = None, code: dict[str, str] | None = None, **sources: Any) -> str:
        job = make_job(data, **sources)
        files = {name: find_files(name, source) for name, source in job.data.sources.items()}
        return compute_cache_key(job.data, files, code or {"farandole": "1"})

    return digest


def test_the_same_request_has_the_same_digest(digest: Digest) -> None:
    assert digest() == digest()
    assert len(digest()) == 64


@pytest.mark.parametrize(
    "data",
    [{"partitions": 7}, {"master": "local[3]"}, {"memory": "5g"}, {"output": "elsewhere"}],
    ids=lambda data: str(*data),
)
def test_what_never_shows_in_a_dataset_does_not_enter(digest: Digest, data: dict[str, Any]) -> None:
    assert digest(data) == digest()


@pytest.mark.parametrize(
    "data",
    [
        {"query": "SELECT * FROM rows"},
        {"features": {"size": {"kind": "numeric", "log": True}, "color": {"kind": "categorical"}}},
        {"features": {"color": {"kind": "categorical"}, "size": {"kind": "numeric"}}},
        {"label": {"column": "bought", "kind": "binary", "positive": 0}},
        {"split": {"train": 0.6, "validation": 0.2, "test": 0.2, "seed": 1}},
        {"shards": {"size_mib": 1}},
    ],
    ids=["query", "feature", "order of features", "label", "seed", "shards"],
)
def test_what_shows_in_a_dataset_enters(digest: Digest, data: dict[str, Any]) -> None:
    assert digest(data) != digest()


def test_how_a_source_is_read_enters(digest: Digest) -> None:
    assert digest(rows={"null_values": ["NA"]}) != digest()


def test_the_order_of_columns_without_a_header_enters(digest: Digest) -> None:
    declared = {"id": "int", "size": "double", "color": "string", "bought": "int"}
    swapped = dict(reversed(declared.items()))
    assert digest(rows={"header": False, "columns": declared}) == digest(rows={"header": False, "columns": declared})
    digests = {digest(rows={"header": False, "columns": columns}) for columns in (declared, swapped)}
    assert len(digests) == 2


def test_the_code_enters(digest: Digest) -> None:
    assert digest(code={"farandole": "2"}) != digest(code={"farandole": "1"})


def test_a_changed_file_enters(digest: Digest, tmp_path: Path) -> None:
    before = digest()
    path = tmp_path / "small.csv"
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert digest() != before
    path.write_bytes(path.read_bytes() + b"60,1,a,1\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digest() != before


def test_the_code_version_names_all_that_decides_about_the_bytes() -> None:
    version = code_version()
    assert set(version) == {"farandole", "preparing_code", "numpy", "pillow", "pyarrow", "pyspark", "tokenizers"}
    assert version == code_version()
