"""Heartbeats of a worker as its launcher receives them."""

from __future__ import annotations

import subprocess
import sys

from farandole.process.messages import parse_line


def test_heartbeat_reports_the_first_step_at_once_and_the_position() -> None:
    code = """
import contextlib, io, time
from farandole.training import heartbeat
heartbeat._INTERVAL_S = 0.4
heartbeat.start(4)
time.sleep(0.1)
with contextlib.redirect_stdout(io.StringIO()):  # a replaced sys.stdout must not hide a heartbeat
    assert heartbeat.current_position() is None
    heartbeat.record_step(101, 2)
    heartbeat.record_batch()
    time.sleep(0.2)
    assert heartbeat.current_position() == (101, 2)
    time.sleep(0.5)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    beats = [data for data in (parse_line(line)[1] for line in done.stdout.splitlines()) if data]
    assert all((beat["event"], beat["rank"]) == ("alive", 4) for beat in beats)
    positions = [(beat["step"], beat["epoch"], beat["moves"]) for beat in beats]
    assert positions[0] == (None, 0, 0)
    assert positions[-1] == (101, 2, 2)
    assert 3 <= len(beats) <= 5  # at the start, at the first step, and an interval later


def test_heartbeat_continues_while_the_process_computes() -> None:
    code = """
from farandole.training import heartbeat
import time
heartbeat._INTERVAL_S = 0.3
heartbeat.start(0)
end = time.monotonic() + 0.8
while time.monotonic() < end:
    sum(range(10000))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) >= 2
