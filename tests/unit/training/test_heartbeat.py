"""Heartbeats of a worker as its launcher receives them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from farandole.process.messages import parse_line

_STEPS = """
import contextlib, io, sys
from farandole.training import heartbeat
heartbeat._INTERVAL_S = float(sys.argv[1])
heartbeat.start(4)
sys.stdin.readline()
with contextlib.redirect_stdout(io.StringIO()):  # a replaced sys.stdout must not hide a heartbeat
    assert heartbeat.current_position() is None
    heartbeat.record_step(101, 2)
    assert heartbeat.current_position() == (101, 2)
    sys.stdin.readline()
    heartbeat.record_batch()
    sys.stdin.readline()
"""

_COMPUTES = """
import select, sys
from farandole.training import heartbeat
heartbeat._INTERVAL_S = float(sys.argv[1])
heartbeat.start(4)
while not select.select([sys.stdin], [], [], 0)[0]:
    sum(range(10000))
"""

Position = tuple[int | None, int, int]


@contextmanager
def _worker(code: str, interval_s: float) -> Iterator[tuple[IO[str], IO[str]]]:
    """Run code in a process; yield where it waits for lines, and where its heartbeats arrive."""
    command = [sys.executable, "-c", code, str(interval_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdin, process.stdout
        finally:
            process.kill()


def _position(line: str) -> Position:
    """Return step, epoch and moves of a heartbeat."""
    _, beat = parse_line(line)
    assert beat is not None
    assert (beat["event"], beat["rank"]) == ("alive", 4)
    return beat["step"], beat["epoch"], beat["moves"]


def test_heartbeat_reports_the_start_and_the_first_step_at_once_and_else_once_an_interval() -> None:
    with _worker(_STEPS, 3600) as (commands, beats):
        assert _position(beats.readline()) == (None, 0, 0)
        commands.write("step\n")
        assert _position(beats.readline()) == (101, 2, 1)
        commands.write("batch\nend\n")
        assert beats.readline() == ""


def test_heartbeat_reports_the_position_an_interval_later() -> None:
    with _worker(_STEPS, 0.05) as (commands, beats):
        commands.write("step\nbatch\n")
        positions = [_position(beats.readline())]
        while positions[-1] != (101, 2, 2):
            positions.append(_position(beats.readline()))
    assert positions == sorted(positions, key=lambda position: position[2])


def test_heartbeat_continues_while_the_process_computes() -> None:
    with _worker(_COMPUTES, 0.05) as (_, beats):
        assert [_position(beats.readline()) for _ in range(4)] == [(None, 0, 0)] * 4
