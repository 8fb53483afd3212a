from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farandole.errors import UserError
from farandole.serving.access.audit import AuditLog
from farandole.serving.access.audit_chain import HEAD_BYTES, AuditReport, Chain, Head, log_files, verify_audit
from farandole.serving.access.server_secret import read_secret


def _write(directory: Path, num_lines: int = 8, **options: Any) -> None:
    log = AuditLog(directory, read_secret(directory, create=True), **options)
    for number in range(num_lines - 2):  # the first and the last line say that the log was opened and closed
        log.append({"caller": "key:é", "rows": number})
    log.close()


def _verify(directory: Path, **options: Any) -> AuditReport:
    return verify_audit(directory, read_secret(directory, create=False), **options)


def _lines(directory: Path) -> list[bytes]:
    return (directory / "audit.jsonl").read_bytes().splitlines(keepends=True)


def _replace(directory: Path, lines: list[bytes]) -> None:
    (directory / "audit.jsonl").write_bytes(b"".join(lines))


def test_untouched_log_is_intact(tmp_path: Path) -> None:
    _write(tmp_path)
    report = _verify(tmp_path)
    assert (report.is_intact, report.lines, report.problem, report.unclosed, report.repairs) == (True, 8, None, (), ())
    assert report.head == json.loads(_lines(tmp_path)[-1])["mac"]


@pytest.mark.parametrize("number", range(8))
def test_removed_line_shows(tmp_path: Path, number: int) -> None:
    _write(tmp_path)
    lines = _lines(tmp_path)
    _replace(tmp_path, lines[:number] + lines[number + 1 :])
    report = _verify(tmp_path)
    assert not report.is_intact
    assert report.lines == number
    if number == 7:
        assert (report.line, report.problem) == (None, "the last 1 lines are missing")
    else:
        assert report.line == number + 1
        assert report.problem == f"lines {number + 1} to {number + 1} are missing before it"


def test_changed_line_shows(tmp_path: Path) -> None:
    _write(tmp_path)
    lines = _lines(tmp_path)
    lines[3] = lines[3].replace(b'"rows": 2', b'"rows": 1')
    _replace(tmp_path, lines)
    report = _verify(tmp_path)
    assert (report.is_intact, report.line) == (False, 4)
    assert "was changed" in report.problem
    assert report.file == str(tmp_path / "audit.jsonl")


def test_exchanged_and_repeated_lines_show(tmp_path: Path) -> None:
    _write(tmp_path)
    lines = _lines(tmp_path)
    _replace(tmp_path, [*lines[:2], lines[3], lines[2], *lines[4:]])
    assert _verify(tmp_path).line == 3
    _replace(tmp_path, [*lines[:4], lines[3], *lines[4:]])
    report = _verify(tmp_path)
    assert (report.line, report.problem) == (5, "the line has number 4, and 5 follows: it was copied, or moved")


def test_whole_log_made_with_another_secret_shows(tmp_path: Path) -> None:
    _write(tmp_path)
    forged = tmp_path / "forged"
    forged.mkdir()
    _write(forged)
    for name in ("audit.jsonl", "audit.head"):
        (tmp_path / name).write_bytes((forged / name).read_bytes())
    report = _verify(tmp_path)
    assert (report.is_intact, report.line) == (False, 1)
    assert "or the secret is another one" in report.problem


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_every_changed_byte_shows(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    directory = tmp_path_factory.mktemp("audit")
    _write(directory, 5)
    chosen = random.Random(seed)
    path = directory / "audit.jsonl"
    content = bytearray(path.read_bytes())
    content[chosen.randrange(len(content))] ^= chosen.randrange(1, 256)
    path.write_bytes(content)
    assert not _verify(directory).is_intact


def test_missing_head_shows(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "audit.head").unlink()
    assert "audit.head is missing" in _verify(tmp_path).problem


def test_changed_head_shows(tmp_path: Path) -> None:
    _write(tmp_path)
    head = (tmp_path / "audit.head").read_bytes()
    (tmp_path / "audit.head").write_bytes(b"7" + head[1:])
    assert "audit.head was changed" in _verify(tmp_path).problem


def test_older_copy_of_log_and_head_shows_by_a_noted_head(tmp_path: Path) -> None:
    _write(tmp_path)
    copies = {name: (tmp_path / name).read_bytes() for name in ("audit.jsonl", "audit.head")}
    _write(tmp_path)
    noted = _verify(tmp_path).head
    assert _verify(tmp_path, noted_head=noted).is_intact
    for name, content in copies.items():
        (tmp_path / name).write_bytes(content)
    assert _verify(tmp_path).is_intact
    assert "the head that was given is not part of the log" in _verify(tmp_path, noted_head=noted).problem


def test_removed_file_of_a_divided_log_shows(tmp_path: Path) -> None:
    _write(tmp_path, 40, max_file_bytes=1500)
    files = log_files(tmp_path)
    assert len(files) > 3
    assert _verify(tmp_path).lines == 40
    files[1].rename(tmp_path / "away")
    report = _verify(tmp_path)
    assert (report.is_intact, report.file, report.line) == (False, str(files[2]), 1)
    assert "are missing before it" in report.problem


def test_incomplete_line_shows(tmp_path: Path) -> None:
    _write(tmp_path)
    _replace(tmp_path, [*_lines(tmp_path), b'{"n": 9, "ti'])
    assert "the line is incomplete" in _verify(tmp_path).problem


def test_worker_that_has_not_closed_is_named(tmp_path: Path) -> None:
    AuditLog(tmp_path, read_secret(tmp_path, create=True))
    report = _verify(tmp_path)
    assert report.is_intact
    assert report.unclosed == (json.loads(_lines(tmp_path)[0])["writer"],)


def test_missing_log_is_an_error(tmp_path: Path) -> None:
    read_secret(tmp_path, create=True)
    with pytest.raises(UserError, match=r"audit\.jsonl: there is no audit log; `farandole serve` writes it"):
        _verify(tmp_path)


def test_head_has_a_fixed_length(tmp_path: Path) -> None:
    chain = Chain(read_secret(tmp_path, create=True))
    for head in (Head(), Head(10**12, b"\xff" * 32, 2**40)):
        text = chain.write_head(head)
        assert len(text) == HEAD_BYTES
        assert chain.read_head(text) == head
