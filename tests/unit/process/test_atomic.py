from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from farandole.process.atomic import (
    atomic_directory,
    atomic_file,
    draft_path,
    flush,
    remove_drafts,
    write_atomic,
    write_json,
    write_private_json,
)


@pytest.mark.parametrize("durable", [False, True])
def test_file_is_replaced_as_a_whole(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, "first", durable=durable)
    with path.open() as reader:
        write_atomic(path, b"second", durable=durable)
        assert reader.read() == "first", "who has it open keeps what was there"
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_keeps_the_old_content_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def fail() -> None:
        with atomic_file(path) as draft:
            draft.write_text("half")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_drafts_of_killed_processes_can_be_removed(tmp_path: Path) -> None:
    draft_path(tmp_path / "a").write_text("half")
    write_atomic(tmp_path / "a", "whole")
    remove_drafts(tmp_path)
    assert os.listdir(tmp_path) == ["a"]


def test_permissions_can_be_chosen(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", "x", mode=0o640)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_private_file_is_private_before_it_has_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    write_bytes = Path.write_bytes

    def watched(path: Path, content: bytes) -> int:
        seen.append((path.stat().st_mode & 0o777, path.stat().st_size))
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", watched)
    write_atomic(tmp_path / "a", "secret", mode=0o600)
    assert seen == [(0o600, 0)]


def test_json_ends_with_a_line_feed(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"b": "é"}, indent=1)
    text = (tmp_path / "a").read_text()
    assert text.endswith("}\n")
    assert json.loads(text) == {"b": "é"}


def test_private_json_is_never_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text("old")
    path.chmod(0o644)
    write_private_json(path, {"password": "x"})
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text()) == {"password": "x"}


@pytest.mark.parametrize("durable", [False, True])
def test_directory_appears_with_all_of_its_files(tmp_path: Path, durable: bool) -> None:
    target = tmp_path / "folder" / "code"
    with atomic_directory(target, durable=durable) as draft:
        (draft / "a").write_text("x")
        assert not target.exists()
    assert (target / "a").read_text() == "x"
    assert os.listdir(target.parent) == ["code"]


def test_directory_that_exists_is_never_replaced(tmp_path: Path) -> None:
    target = tmp_path / "code"
    for text in ("first", "second"):
        with atomic_directory(target, exist_ok=True) as draft:
            (draft / "a").write_text(text)
    assert (target / "a").read_text() == "first"
    with pytest.raises(OSError, match="code"), atomic_directory(target) as draft:
        (draft / "a").write_text("third")
    assert os.listdir(tmp_path) == ["code"]


def test_failed_directory_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_directory(tmp_path / "code") as draft:
            (draft / "a").write_text("x")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert os.listdir(tmp_path) == []


def test_directories_that_cannot_be_flushed_are_left_as_they_are() -> None:
    flush(Path("/proc"))  # like some network file systems
    with pytest.raises(OSError, match="Invalid argument"):
        flush(Path("/proc/self/status"))
