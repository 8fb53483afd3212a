"""Trials in the local queue, with jobs that are one line of shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from farandole.backends.local.backend import LocalBackend
from farandole.backends.local.queue import Queue
from farandole.events import EpochMetrics
from farandole.jobdir.trial_events import TrialEventWriter
from farandole.sweeping.trial_jobs import LocalTrialJobs, TrialEnded, _TrialBackend
from tests.support.queued import MakeBackend, shell_job, wait_for_state, wait_until


@pytest.fixture
def sweep(farandole_home: Path) -> Path:
    """Create the directory of a sweep."""
    path = farandole_home / "sweeps" / "tiny-x"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, local: MakeBackend) -> None:
    """Let trials run `trial.sh` of their sweep instead of a training."""
    monkeypatch.setattr(
        _TrialBackend,
        "_command_for",
        lambda self, directory: ["/bin/sh", str(self._sweep / "trial.sh"), str(directory)],
    )


def _poll_until_end(jobs: LocalTrialJobs, number: int) -> list[object]:
    """Return what a trial reports until it ends."""
    reported: list[object] = []

    def has_ended() -> bool:
        reported.extend(event for reporter, event in jobs.poll() if reporter == number)
        return bool(reported) and isinstance(reported[-1], TrialEnded)

    wait_until(has_ended)
    return reported


@pytest.mark.usefixtures("shell")
def test_trial_reports_its_epochs_and_its_end(sweep: Path) -> None:
    (sweep / "trial.sh").write_text("cat $(dirname $0)/events >> $1/trial.jsonl; exit 3")
    events = [EpochMetrics(1, 2, {"roc_auc": 0.5}), EpochMetrics(2, 2, {"roc_auc": 0.75})]
    for event in events:
        TrialEventWriter(sweep, lambda _: None)(event)
    (sweep / "trial.jsonl").rename(sweep / "events")
    with LocalTrialJobs(sweep, 1) as jobs:
        jobs.submit(4, shell_job())
        assert jobs.directory(4).name == "tiny-x-trial-004"
        assert _poll_until_end(jobs, 4) == [*events, TrialEnded("failed", "its process ended with exit code 3")]
        link = json.loads((jobs.directory(4) / "tracking" / "record.json").read_text())
        assert link["parent"] == str(sweep)
        assert jobs.poll() == []


@pytest.mark.usefixtures("shell")
def test_cancelled_trial_ends_and_frees_its_slot(sweep: Path) -> None:
    (sweep / "trial.sh").write_text("exec sleep 600")
    with LocalTrialJobs(sweep, 1) as jobs:
        for number in (0, 1):
            jobs.submit(number, shell_job())
        backend = LocalBackend()
        wait_for_state(backend, jobs.directory(0).name, "running")
        assert backend.status(jobs.directory(1).name).state == "queued"
        jobs.cancel(0)
        (end,) = _poll_until_end(jobs, 0)
        assert isinstance(end, TrialEnded)
        assert end.state == "cancelled"
        wait_for_state(backend, jobs.directory(1).name, "running")
    assert backend.status(jobs.directory(1).name).state == "cancelled"
    assert not list(sweep.parents[1].glob("jobs.*.waking"))


@pytest.mark.usefixtures("shell")
def test_trials_do_not_wait_for_other_jobs_of_the_queue(sweep: Path, local: MakeBackend) -> None:
    other = local("sleep 600")
    wait_for_state(other, other.submit(shell_job()).id, "running")
    (sweep / "trial.sh").write_text("true")
    with LocalTrialJobs(sweep, 2) as jobs:
        jobs.submit(0, shell_job())
        assert _poll_until_end(jobs, 0) == [TrialEnded("succeeded", "completed")]


def test_trials_of_a_killed_sweep_are_cancelled_when_it_resumes(
    sweep: Path, farandole_home: Path, local: MakeBackend
) -> None:
    code = (
        "from pathlib import Path\n"
        "from farandole.backends.local.backend import LocalBackend\n"
        "from tests.support.queued import shell_job\n"
        "backend = LocalBackend(command=['/bin/sh', '-c', 'sleep 600'], pool='tiny-x', parent='tiny-x')\n"
        "print(backend.submit(shell_job()).id)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    job_id = done.stdout.strip()
    with LocalTrialJobs(sweep, 1):
        entry = Queue(farandole_home).find(job_id)
        assert entry is not None
        assert entry.state == "cancelled"
