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
    return [entry.operation["number"] for entry in spool.next(10_000)]


def _fill(spool: Spool, numbers: range) -> None:
    for number in numbers:
        spool.append({"op": "tags", "number": number})


def test_what_was_appended_comes_out_in_order_and_again_until_it_is_acknowledged(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    _fill(spool, range(5))
    assert _numbers(spool) == _numbers(spool) == [0, 1, 2, 3, 4]
    spool.acknowledge(spool.next(2)[1], 2)
    assert _numbers(spool) == [2, 3, 4]
    assert spool.waiting == 3


def test_another_process_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    _fill(spool, range(5))
    spool.acknowledge(spool.next(2)[1], 2)
    spool.close()
    again = Spool(tmp_path)
    _fill(again, range(5, 7))
    assert _numbers(again) == [2, 3, 4, 5, 6]
    assert again.waiting == 5


def test_half_a_line_of_a_killed_process_is_cut_off(tmp_path: Path) -> None:
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


def test_segments_that_were_taken_go_and_the_order_spans_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_SEGMENT_BYTES", 100)
    spool = Spool(tmp_path)
    _fill(spool, range(50))
    before = len(list(tmp_path.glob("*.jsonl")))
    assert before > 5
    assert _numbers(spool) == list(range(50))
    for _ in range(40):
        spool.acknowledge(spool.next(1)[0])
    assert len(list(tmp_path.glob("*.jsonl"))) < before / 2
    spool.close()
    again = Spool(tmp_path)
    assert _numbers(again) == list(range(40, 50))


def test_a_lost_note_of_what_was_taken_sends_more_and_never_less(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    _fill(spool, range(4))
    spool.acknowledge(spool.next(1)[0])
    spool.close()
    (tmp_path / "sent.json").write_text('{"segm')
    assert _numbers(Spool(tmp_path)) == [0, 1, 2, 3]


def test_a_spool_that_was_sent_leaves_nothing_behind(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    _fill(spool, range(2))
    kept = spool.keep("plot.png", b"image")
    assert (spool.place("") / kept).read_bytes() == b"image"
    spool.acknowledge(spool.next(2)[1], 2)
    spool.close()
    assert not (tmp_path / "spool").exists()


def test_only_one_process_owns_a_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(SpecError, match="a job that still runs records here"):
        Spool(tmp_path)
    spool.append({"op": "tags"})
    spool.close()
    Spool(tmp_path).close()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root can mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_on_a_full_disk_operations_wait_in_memory_and_none_is_lost_or_torn(tiny_disk: Path) -> None:
    filler = tiny_disk / "filler"
    spool = Spool(tiny_disk / "spool")
    _fill(spool, range(10))
    filler.write_bytes(b"x" * 20_000)
    _fill(spool, range(10, 1000))
    assert spool.problem is not None
    assert "No space left" in str(spool.problem)
    written = _numbers(spool)
    assert len(written) < 1000
    assert written == list(range(len(written)))
    assert spool.waiting == 1000
    filler.unlink()
    spool.flush()
    assert spool.problem is None or len(_numbers(spool)) > len(written)
    while spool.waiting:
        entries = spool.next(100)
        assert entries[0].operation["number"] == 1000 - spool.waiting
        spool.acknowledge(entries[-1], len(entries))
        spool.flush()
