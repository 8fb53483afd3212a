"""`plan`, `run` and `train` as processes, with real gangs."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.made_data import WriteJob

FARANDOLE = str(Path(sys.executable).with_name("farandole"))
START_S = 120
"""Longest wait for a gang to begin, on a machine that does other things too."""
END_S = 90
"""Longest wait for a job that was ended to be gone, on a machine that does other things too."""


def farandole(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [FARANDOLE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, **options)


def _snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_plan_shows_the_steps_and_touches_nothing(home: Path, write_job: WriteJob, tmp_path: Path) -> None:
    job = write_job()
    before = _snapshot(tmp_path)
    done = farandole("plan", job)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[:4]] == ["1. prepare", "2. train", "3. evaluate", "4. register"]
    assert lines[4].startswith("✔ nothing is wrong")
    assert _snapshot(tmp_path) == before


def test_plan_as_json_is_one_document_and_problems_end_in_2(home: Path, write_job: WriteJob) -> None:
    job = write_job(model={"builder": "nowhere:build", "options": {}})
    done = farandole("plan", job, "--json", "--set", "train.epochs=7")
    assert done.returncode == 2
    document = json.loads(done.stdout)
    assert set(document) == {"problems", "steps", "objects"}
    assert document["problems"][0].startswith("model.builder: nowhere:build: there is no module nowhere")
    assert "for 7 epochs" in document["steps"][1]["text"]


def test_all_mistakes_of_a_job_file_are_told_at_once_with_their_remedy(home: Path, write_job: WriteJob) -> None:
    job = write_job(train={"epoch": 3, "global_batch_size": 0}, resources={"workers": "two"})
    done = farandole("train", job)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert f"farandole: {job}: train.epoch: unknown key; did you mean `epochs`?" in lines
    assert any("train.global_batch_size: 0: " in line for line in lines)
    assert any("resources.workers: 'two': " in line for line in lines)


@pytest.mark.parametrize("builder", ["nowhere:build", "network:biuld"])
def test_a_builder_that_is_not_there_is_told_before_anything_starts(
    home: Path, write_job: WriteJob, builder: str
) -> None:
    for command in ("run", "train", "prepare"):
        done = farandole(command, write_job(model={"builder": builder, "options": {}}))
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"farandole: model.builder: {builder}: ")
    assert not (home / "jobs").exists()


def test_a_dataset_that_is_not_there_is_told_with_the_command_that_makes_it(
    home: Path, write_job: WriteJob, tmp_path: Path
) -> None:
    done = farandole("train", write_job(data__output=str(tmp_path / "new")))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"farandole: {tmp_path / 'new'}: no manifest.json, so no dataset")
    assert "run `farandole prepare JOB.yaml`" in line


@pytest.mark.slow
def test_run_prints_one_document_on_stdout_and_plain_progress_on_stderr(home: Path, write_job: WriteJob) -> None:
    done = farandole("run", write_job(), "--json", "--set", "train.epochs=1", "--set", "resources.workers=1")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert set(document) >= {"job", "dataset", "training", "model"}
    assert document["job"] == "small"
    assert set(document["dataset"]) == {"path", "digest", "rows", "left_out", "reused"}
    assert document["dataset"]["reused"] is True
    assert document["dataset"]["rows"] == {"train": 962, "validation": 150, "test": 150}
    assert document["training"]["steps"] == 16
    assert document["training"]["workers"] == 1
    assert document["model"]["uri"] == "models:/small/1"
    assert "\x1b" not in done.stderr
    stages = [line.partition("] ")[2].partition(":")[0] for line in done.stderr.splitlines()]
    assert [stage for stage in dict.fromkeys(stages) if not stage.startswith("epoch")] == [
        "prepare", "train", "evaluate", "register",
    ]  # fmt: skip
    assert any("epoch 1 of 1: validation roc_auc" in line for line in done.stderr.splitlines())


@pytest.mark.slow
def test_a_profile_is_a_trace_of_each_worker_and_the_timeline_of_what_they_sum(home: Path, write_job: WriteJob) -> None:
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


@pytest.mark.slow
def test_the_evidence_of_a_failure_is_shown_to_those_who_ask(home: Path, write_job: WriteJob) -> None:
    job = write_job(model={"builder": "network:build_raising", "options": {}}, resources__workers=1)
    done = farandole("--debug", "train", job)
    assert done.returncode == 2
    assert (
        f"farandole: model.builder: network:build_raising: raised KeyError: 'no such layer' in {job.parent}"
        in done.stderr
    )
    assert 'raise KeyError("no such layer")' in done.stderr
    assert "Traceback (most recent call last)" in done.stderr


# Ended from outside -------------------------------------------------------------------------------------------


def test_scaling_what_does_not_run_is_refused(home: Path) -> None:
    done = farandole("scale", "nowhere-1", "2")
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"farandole: nowhere-1: there is no such job here; the jobs are the folders of {home}"
    )


class Running:
    """A training that takes its time, as a process group of its own.

    Args:
        job: The job file.
        home: `$FARANDOLE_HOME`.
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
        """Wait until both ranks train; their process ids."""
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
        """The command lines of processes that know this job's directory, and children of workers."""
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
        """Whether all processes have ended, in time."""
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
def test_terminated_it_ends_its_gang_and_says_so(start: Start, home: Path) -> None:
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
def test_killed_it_leaves_no_worker_and_no_environment_behind(start: Start, home: Path) -> None:
    running = start()
    running.begin()
    running.process.kill()
    assert running.process.wait(END_S) == -signal.SIGKILL
    assert running.gone(), running.left()
    assert not list(home.glob("jobs/*/environment.json"))


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_job_in_seconds_with_its_name_and_signal(start: Start) -> None:
    running = start()
    ranks = running.begin()
    os.kill(ranks[1], signal.SIGKILL)
    assert running.process.wait(END_S) == 1
    assert running.gone(), running.left()
    told = [line for line in running.words().splitlines() if line.startswith("farandole: ")]
    assert len(told) == 1 or (len(told) == 2 and told[1] == "farandole: more with `farandole --debug …`")
    assert told[0].startswith("farandole: train: worker 1 was killed by signal 9, SIGKILL (")


@pytest.mark.slow
def test_on_a_terminal_a_bar_is_drawn_and_ctrl_c_ends_everything(start: Start) -> None:
    ours, theirs = pty.openpty()
    running = start(theirs)
    os.close(theirs)
    drawn = b""

    def draw(seconds: float) -> None:
        nonlocal drawn
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and select.select([ours], [], [], 0.2)[0]:
            try:
                drawn += os.read(ours, 65536)
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
    os.close(ours)
    text = drawn.decode()
    assert running.process.returncode == 130, text[-500:]
    assert running.gone(), running.left()
    assert "\x1b[" in text
    assert "epoch 1 of 1000" in text
    assert "━" in text
    assert text.rstrip().endswith("farandole: interrupted; everything that was started has ended")
