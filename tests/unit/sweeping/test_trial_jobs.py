"""End of a sweep's jobs; trials that run are in `tests/integration`."""

from __future__ import annotations

from pathlib import Path

from farandole.backends.local.queue import Queue
from farandole.backends.records import JobRecord
from farandole.sweeping.trial_jobs import LocalTrialJobs


def test_sweep_cancels_its_trials_but_not_those_that_the_user_has_retried(farandole_home: Path) -> None:
    queue = Queue(farandole_home)
    sweep = farandole_home / "sweeps" / "small-1"
    with LocalTrialJobs(sweep, 1) as jobs:
        for number in range(2):
            directory = jobs.directory(number)
            directory.mkdir(parents=True)
            record = JobRecord(directory.name, "small", "local")
            queue.submit(record, directory, ["true"], pool=sweep.name, parent=sweep.name)
        blocking = farandole_home / "jobs" / "blocking"
        blocking.mkdir()
        queue.submit(JobRecord("blocking", "blocking", "local"), blocking, ["true"], priority=9)
        claimed = queue.claim("local")  # takes the only slot, so that nothing else starts
        assert claimed is not None
        jobs.cancel(1)
        queue.retry(jobs.directory(1).name)
    states = {entry.id: entry.state for entry in queue.all("local")}
    assert states[jobs.directory(0).name] == "cancelled"
    assert states[jobs.directory(1).name] == "queued"
    claimed[1].release()
