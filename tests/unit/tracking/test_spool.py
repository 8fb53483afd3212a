from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from farandole.errors import SpecError
from farandole.tracking import spool as spool_module
from farandole.tracking.spool import Spool


def _numbers(spool: Spool) -> list[int]:
    return [entry.operation["number"] for entry in spool.peek(10_000)]


def _fill(spool: Spool, numbers: range) -> None:
    for number in numbers:
        spool.append({"op": "tags", "number": number})


def test_operations_are_returned_in_order_until_they_are_acknowledged(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    _fill(spool, range(5))
    assert _numbers(spool) == _numbers(spool) == [0, 1, 2, 3, 4]
    spool.acknowledge(spool.peek(2)[1], 2)
    assert _numbers(spool) == [2, 3, 4]
    assert spool.pending == 3


def test_another_process_continues_after_the_acknowledged_operations(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    _fill(spool, range(5))
    spool.acknowledge(spool.peek(2)[1], 2)
    spool.close()
    again = Spool(tmp_path)
    _fill(again, range(5, 7))
    assert _numbers(again) == [2, 3, 4, 5, 6]
    assert again.pending == 5


def test_a_partial_line_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    _fill(spool, range(3))
    spool.close()
    (segment,) = tmp_path.glob("*.jsonl")
    with segment.open("ab") as file:
        file.write(b'{"op":"tags","numb')
    again = Spool(tmp_path)
    assert _numbers(again) == [0, 1, 2]
    _fill(again, range(3, 4))
    assert _numbers(again) == [0, 1, 2, 3]


def test_acknowledged_segments_are_deleted_and_the_order_spans_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_SEGMENT_BYTES", 100)
    spool = Spool(tmp_path)
    _fill(spool, range(50))
    before = len(list(tmp_path.glob("*.jsonl")))
    assert before > 5
    assert _numbers(spool) == list(range(50))
    for _ in range(40):
        spool.acknowledge(spool.peek(1)[0])
    assert len(list(tmp_path.glob("*.jsonl"))) < before / 2
    spool.close()
    again = Spool(tmp_path)
    assert _numbers(again) == list(range(40, 50))


def test_operations_are_repeated_if_the_position_is_damaged(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    _fill(spool, range(4))
    spool.acknowledge(spool.peek(1)[0])
    spool.close()
    (tmp_path / "sent.json").write_text('{"segm')
    assert _numbers(Spool(tmp_path)) == [0, 1, 2, 3]


def test_a_fully_acknowledged_spool_is_deleted(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    _fill(spool, range(2))
    file = spool.store_file("plot.png", b"image")
    assert (spool.files / file).read_bytes() == b"image"
    spool.acknowledge(spool.peek(2)[1], 2)
    spool.close()
    assert not (tmp_path / "spool").exists()


def test_a_spool_has_only_one_owner(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(SpecError, match="a running job owns this spool"):
        Spool(tmp_path)
    spool.append({"op": "tags"})
    spool.close()
    Spool(tmp_path).close()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 32 KiB."""
    mount_point = tmp_path / "disk"
    mount_point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(mount_point)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root can mount a file system")
    try:
        yield mount_point
    finally:
        subprocess.run(["umount", "--lazy", str(mount_point)], check=True)


def test_on_a_full_disk_operations_are_held_in_memory_and_none_is_lost_or_truncated(tiny_disk: Path) -> None:
    filler = tiny_disk / "filler"
    spool = Spool(tiny_disk / "spool")
    _fill(spool, range(10))
    filler.write_bytes(b"x" * 20_000)
    _fill(spool, range(10, 1000))
    assert spool.disk_error is not None
    assert "No space left" in str(spool.disk_error)
    written = _numbers(spool)
    assert len(written) < 1000
    assert written == list(range(len(written)))
    assert spool.pending == 1000
    filler.unlink()
    spool.flush()
    assert spool.disk_error is None or len(_numbers(spool)) > len(written)
    while spool.pending:
        operations = spool.peek(100)
        assert operations[0].operation["number"] == 1000 - spool.pending
        spool.acknowledge(operations[-1], len(operations))
        spool.flush()
