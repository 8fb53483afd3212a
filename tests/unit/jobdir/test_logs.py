from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from farandole.jobdir.logs import read_job_log, read_rank_log
from tests.support.queued import wait_until


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)


class _Follower:
    """A reader in a thread, as at a terminal."""

    def __init__(self, directory: Path, rank: int | None) -> None:
        self.ended = False
        self.lines: list[str] = []
        ended = self._has_ended
        lines = read_job_log(directory, ended) if rank is None else read_rank_log(directory, rank, ended)
        self._thread = threading.Thread(target=self._collect, args=(lines,))
        self._thread.start()

    def _has_ended(self) -> bool:
        return self.ended

    def _collect(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.lines.append(line)

    def expect(self, *lines: str) -> None:
        wait_until(lambda: self.lines == [*lines])

    def end(self) -> list[str]:
        self.ended = True
        self._thread.join()
        return self.lines


def test_unfinished_last_line_is_read(tmp_path: Path) -> None:
    _write(tmp_path / "job.log", "one\r\ntwo\nthr")
    assert list(read_job_log(tmp_path, None)) == ["one", "two", "thr"]
    assert list(read_job_log(tmp_path / "nowhere", None)) == []


def test_invalid_utf8_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "job.log").write_bytes(b"\xff\xfe\nfine\n")
    assert list(read_job_log(tmp_path, None)) == ["\ufffd\ufffd", "fine"]


def test_followed_log_yields_whole_lines_until_the_end(tmp_path: Path) -> None:
    follower = _Follower(tmp_path, None)
    _write(tmp_path / "job.log", "one\nhal")
    follower.expect("one")
    _write(tmp_path / "job.log", "f\n")
    follower.expect("one", "half")
    follower.ended = True
    _write(tmp_path / "job.log", "last\nwords")
    assert follower.end()[:2] == ["one", "half"]


def test_lines_written_before_the_end_are_not_missed(tmp_path: Path) -> None:
    def has_ended() -> bool:
        _write(tmp_path / "job.log", "written just before\n")
        return True

    _write(tmp_path / "job.log", "one\n")
    assert list(read_job_log(tmp_path, has_ended)) == ["one", "written just before"]


def test_worker_is_followed_over_attempts_without_it(tmp_path: Path) -> None:
    follower = _Follower(tmp_path, 1)
    _write(tmp_path / "logs" / "attempt-1" / "rank-1.log", "first\n")
    follower.expect("first")
    _write(tmp_path / "logs" / "attempt-2" / "rank-0.log", "alone\n")
    _write(tmp_path / "logs" / "attempt-3" / "rank-1.log", "third\n")
    follower.expect("first", "third")
    assert follower.end() == ["first", "third"]
    for number in range(4, 12):
        _write(tmp_path / "logs" / f"attempt-{number}" / "rank-1.log", f"{number}\n")
    assert list(read_rank_log(tmp_path, 1, None)) == ["first", "third", *map(str, range(4, 12))]
