from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import farandole
from farandole.ingest import cache_key as cache_key_module
from farandole.ingest.cache_key import (
    CODE_PACKAGES,
    UNINVOLVED,
    code_files,
    code_version,
    compute_cache_key,
)
from farandole.ingest.sources.files import find_files
from tests.support.ingest_inputs import MakeJob, Write

KeyOf = Callable[..., str]
PACKAGE = Path(farandole.__file__).parent


@pytest.fixture
def key_of(write: Write, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> KeyOf:
    """Return the function that computes the cache key of the small job with changes."""
    write()

    def key_of(data: dict[str, Any] | None = None, code: str = "1", **sources: Any) -> str:
        monkeypatch.setattr(cache_key_module, "code_version", lambda: {"farandole": code})
        job = make_job(data, **sources)
        files = {name: find_files(name, source) for name, source in job.data.sources.items()}
        return compute_cache_key(job.data, files)

    return key_of


def test_equal_jobs_have_equal_keys(key_of: KeyOf) -> None:
    assert key_of() == key_of()
    assert len(key_of()) == 64


@pytest.mark.parametrize(
    "data",
    [{"partitions": 7}, {"master": "local[3]"}, {"memory": "5g"}, {"output": "elsewhere"}],
    ids=lambda data: str(*data),
)
def test_fields_without_effect_on_the_dataset_do_not_change_the_key(key_of: KeyOf, data: dict[str, Any]) -> None:
    assert key_of(data) == key_of()


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
def test_fields_with_effect_on_the_dataset_change_the_key(key_of: KeyOf, data: dict[str, Any]) -> None:
    assert key_of(data) != key_of()


def test_source_options_change_the_key(key_of: KeyOf) -> None:
    assert key_of(rows={"null_values": ["NA"]}) != key_of()


def test_the_order_of_columns_without_a_header_changes_the_key(key_of: KeyOf) -> None:
    declared = {"id": "int", "size": "double", "color": "string", "bought": "int"}
    swapped = dict(reversed(declared.items()))
    assert key_of(rows={"header": False, "columns": declared}) == key_of(rows={"header": False, "columns": declared})
    keys = {key_of(rows={"header": False, "columns": columns}) for columns in (declared, swapped)}
    assert len(keys) == 2


def test_the_code_version_changes_the_key(key_of: KeyOf) -> None:
    assert key_of(code="2") != key_of(code="1")


def test_a_changed_file_changes_the_key(key_of: KeyOf, tmp_path: Path) -> None:
    before = key_of()
    path = tmp_path / "small.csv"
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert key_of() != before
    path.write_bytes(path.read_bytes() + b"60,1,a,1\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert key_of() != before


# The code -----------------------------------------------------------------------------------------------------


def test_the_code_version_covers_farandole_and_the_libraries_that_affect_a_dataset() -> None:
    version = code_version()
    transforming = {"numpy", "pillow", "pyarrow", "pyspark", "tokenizers"}
    detecting = {"phonenumberslite", "python-stdnum"}
    assert set(version) == {"farandole", "preparing_code"} | transforming | detecting
    assert version == code_version()


def test_every_module_that_preparation_imports_is_in_the_code_version_or_declared_uninvolved() -> None:
    covered = {path for _, path in code_files()}
    uninvolved = {PACKAGE / "__init__.py"}  # the lazy public names
    uninvolved |= {path for name in UNINVOLVED for path in (PACKAGE / name).rglob("*.py")}
    uninvolved |= {PACKAGE / f"{name}.py" for name in UNINVOLVED}
    imported = _transitive_imports("farandole.ingest.prepare")
    assert imported - covered - uninvolved == set()
    for name in CODE_PACKAGES:
        assert any(path.is_relative_to(PACKAGE / name) for path in imported), f"nothing of {name} is imported"


@pytest.mark.parametrize(
    "name",
    [
        "spec/time_pattern.py",  # parses dates and timestamps
        "spec/sources.py",  # splits the fields of structs
        "preprocess/text_types.py",
        "ingest/readers/csv_reader.py",
        "ingest/spark/partitioning.py",
        "preprocess/tokenizer.py",
        "privacy/policies.py",
        "shards/writer.py",
    ],
)
def test_code_that_decides_about_values_is_in_the_code_version(name: str) -> None:
    assert name in dict(code_files())


def test_an_edit_in_a_subpackage_changes_the_code_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "farandole" / "ingest" / "readers" / "deeper" / "parser.py"
    module.parent.mkdir(parents=True)
    module.write_text("LENIENT = False\n")
    monkeypatch.setattr(cache_key_module, "__file__", str(tmp_path / "farandole" / "ingest" / "cache_key.py"))
    before = code_version.__wrapped__()
    module.write_text("LENIENT = True\n")
    assert code_version.__wrapped__()["preparing_code"] != before["preparing_code"]


def _transitive_imports(module: str) -> set[Path]:
    """Return the files of Farandole that a module imports, directly or not, anywhere in their text."""
    found: set[Path] = set()
    pending = [module]
    while pending:
        path = _file_of(pending.pop())
        if path is not None and path not in found:
            found.add(path)
            pending += _imports(path)
    return found


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "farandole":
                yield from (".".join(parts[:end]) for end in range(2, len(parts) + 1))


def _file_of(module: str) -> Path | None:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)
