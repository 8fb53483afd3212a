"""`train` as a process that is interrupted, terminated, killed and profiled."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.command import FARANDOLE, farandole
from tests.support.made_data import WriteJob

START_S = 120
"""Longest wait for a gang to begin, on a machine that does other things too."""
END_S = 90
"""Longest wait for a job that was ended to be gone, on a machine that does other things too."""


@pytest.mark.slow
def test_profile_has_a_trace_of_each_worker_and_a_timeline_of_the_collectives(home: Path, write_job: WriteJob) -> None:
    done = farandole("train", write_job(), "--profile", "--json", "--set", "train.epochs=1")
    assert done.returncode == 0, done.stderr
    folder = Path(json.loads(done.stdout)["directory"]) / "profile"
    assert sorted(path.name for path in folder.iterdir()) == [
        "horovod-timeline.json", "torch-rank-0.json", "torch-rank-1.json",
    ]  # fmt: skip
    for rank in (0, 1):
        events = json.loads((folder / f"torch-rank-{rank}.json").read_text(encoding="utf-8"))["traceEvents"]
        assert any(event["name"].startswith("aten::") for event in events)
    assert "ALLREDUCE" in (folder / "horovod-timeline.json").read_text(encoding="utf-8")
    logged = {path.name for path in home.rglob("artifacts/profile/*")}
    assert logged == {path.name for path in folder.iterdir()}


# Ended from outside -------------------------------------------------------------------------------------------


class Running:
    """A slow training in its own process group.

    Args:
        job: The job file.
        home: The `$FARANDOLE_HOME` to use.
        marks: Where the ranks leave their process ids.
        terminal: The descriptor of a terminal to run on.
    """

    def __init__(self, job: Path, home: Path, marks: Path, terminal: int | None = None) -> None:
        self._home, self._marks = home, marks
        # A file, not a pipe: nothing may wait for somebody to read.
        self._words = home.parent / "stderr"
        with self._words.open("w") as words:
            stream = words if terminal is None else terminal
            self.process = subprocess.Popen(
                [FARANDOLE, "train", str(job)],
                stdin=stream if terminal is not None else subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    def begin(self) -> list[int]:
        """Wait until both ranks train; return their process ids."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            marks = sorted(self._marks.glob("rank-*-began"))
            if len(marks) == 2 and all(mark.read_text() for mark in marks):
                return [int(mark.read_text()) for mark in marks]
            time.sleep(0.1)
        raise AssertionError(f"the gang did not begin: {self.words()}")

    def words(self) -> str:
        return self._words.read_text()

    def left(self) -> list[str]:
        """Return the command lines of processes of this job, and the children of its workers."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self._home / "jobs") in line:
                found.append(line)
        children = [int(mark.read_text()) for mark in self._marks.glob("rank-*-child")]
        return found + [f"child {child}" for child in children if Path(f"/proc/{child}/stat").exists()]

    def gone(self) -> bool:
        """Wait for the end of all processes; return whether they have ended in time."""
        deadline = time.monotonic() + END_S
        while self.left() and time.monotonic() < deadline:
            time.sleep(0.1)
        return not self.left()


Start = Callable[..., Running]


@pytest.fixture
def start(home: Path, write_job: WriteJob, tmp_path: Path) -> Iterator[Start]:
    marks = tmp_path / "marks"
    marks.mkdir()
    started: list[Running] = []

    def start(terminal: int | None = None) -> Running:
        options = {"marks": str(marks), "step_s": 0.2}
        job = write_job(model={"builder": "network:build_slow", "options": options}, train__epochs=1000)
        started.append(Running(job, home, marks, terminal))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            os.killpg(running.process.pid, signal.SIGKILL)
            running.process.wait()


@pytest.mark.slow
def test_sigterm_ends_the_gang_and_is_reported(start: Start, home: Path) -> None:
    running = start()
    running.begin()
    assert len(running.left()) >= 5  # the launcher, two workers, and a child of each in a session of its own
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(END_S) == 143
    assert running.gone(), running.left()
    assert running.words().splitlines()[-1] == "farandole: terminated; everything that was started has ended"
    assert not list(home.glob("jobs/*/environment.json"))
    (status,) = home.glob("jobs/*/status.json")
    assert json.loads(status.read_text())["state"] == "cancelled"


@pytest.mark.slow
def test_killed_command_leaves_no_worker_and_no_environment_file(start: Start, home: Path) -> None:
    running = start()
    running.begin()
    running.process.kill()
    assert running.process.wait(END_S) == -signal.SIGKILL
    assert running.gone(), running.left()
    assert not list(home.glob("jobs/*/environment.json"))


@pytest.mark.slow
def test_killed_worker_ends_the_job_with_its_rank_and_signal(start: Start) -> None:
    running = start()
    ranks = running.begin()
    os.kill(ranks[1], signal.SIGKILL)
    assert running.process.wait(END_S) == 1
    assert running.gone(), running.left()
    lines = [line for line in running.words().splitlines() if line.startswith("farandole: ")]
    assert len(lines) == 2
    assert re.search(r"/job\.yaml --resume-id small-\S+` starts it again$", lines[1])
    assert lines[0].startswith("farandole: train: worker 1 was killed by signal 9, SIGKILL (")


@pytest.mark.slow
def test_ctrl_c_on_a_terminal_with_a_bar_ends_everything(start: Start) -> None:
    shown, terminal = pty.openpty()
    running = start(terminal)
    os.close(terminal)
    drawn = b""

    def draw(seconds: float) -> None:
        nonlocal drawn
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and select.select([shown], [], [], 0.2)[0]:
            try:
                drawn += os.read(shown, 65536)
            except OSError:
                return

    deadline = time.monotonic() + START_S
    while b"rows/s" not in drawn and time.monotonic() < deadline and running.process.poll() is None:
        draw(1)
    os.killpg(running.process.pid, signal.SIGINT)
    deadline = time.monotonic() + END_S
    while running.process.poll() is None and time.monotonic() < deadline:
        draw(1)
    draw(1)
    os.close(shown)
    text = drawn.decode()
    assert running.process.returncode == 130, text[-500:]
    assert running.gone(), running.left()
    assert "\x1b[" in text
    assert "epoch 1 of 1000" in text
    assert "━" in text
    assert text.rstrip().endswith("farandole: interrupted; everything that was started has ended")
