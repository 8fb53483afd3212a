"""A worker's signs of life, as a launcher hears them."""

from __future__ import annotations

import subprocess
import sys

from farandole.process.messages import parse_line


def test_a_process_gives_signs_tells_its_first_step_at_once_and_says_where_it_is() -> None:
    code = """
import contextlib, io, time
from farandole.training import pulse
pulse.begin(4)
time.sleep(0.3)
with contextlib.redirect_stdout(io.StringIO()):  # what a user's code does to sys.stdout must not hide a sign
    assert pulse.place() is None
    pulse.moved(101, 2)
    pulse.evaluated()
    time.sleep(0.5)
    assert pulse.place() == (101, 2)
    time.sleep(1.2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    signs = [data for data in (parse_line(line)[1] for line in done.stdout.splitlines()) if data]
    assert all((sign["event"], sign["rank"]) == ("alive", 4) for sign in signs)
    places = [(sign["step"], sign["epoch"], sign["moves"]) for sign in signs]
    assert places[0] == (None, 0, 0)
    assert places[-1] == (101, 2, 2)
    assert 3 <= len(signs) <= 5  # at the start, at the first step, a second later


def test_a_process_gives_signs_while_it_imports_and_computes() -> None:
    code = """
from farandole.training import pulse
import time
pulse.begin(0)
end = time.monotonic() + 2.5
while time.monotonic() < end:
    sum(range(10000))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) >= 2
