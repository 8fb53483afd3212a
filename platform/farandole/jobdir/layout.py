"""Names of the files in a job's directory."""

from __future__ import annotations

import re
from pathlib import Path

from farandole.errors import SpecError
from farandole.storage import home

JOBS, SWEEPS = "jobs", "sweeps"
"""The folders of `$FARANDOLE_HOME` with a directory for each job, and for each sweep."""

SPEC = "job.json"
"""The serialized spec."""
STATUS = "status.json"
"""The current state of the training."""
EVENTS = "events.jsonl"
"""The history of the training."""
LOG = "job.log"
"""Stages, progress and failures of all starts of a job: one line each, with its time."""
PROGRESS = "progress.json"
"""The newest event of a job, and how far it is."""
OUTCOME = "outcome.json"
"""Why a submitted job ended, according to its own process."""
RESULT = "result.json"
"""The result document of a job, as `farandole run --json` prints it."""
TRIAL_EVENTS = "trial.jsonl"
"""Metrics of epochs and warnings, in the directory of a sweep's trial."""
RUNNER_LOCK = "runner.lock"
"""The lock that the runner of a submitted job holds; jobs of the foreground have no such file."""
FOREGROUND = "foreground.json"
"""Start, process and end of a job in the foreground."""
FOREGROUND_LOCK = "foreground.lock"
"""The lock that the process of a job in the foreground holds."""
FINALIZER_LOCK = "finalizer.lock"
"""The lock that is held while the MLflow run of a killed job in the foreground is closed."""
LAUNCH_CONTEXT = "start.json"
"""The launch context of a waiting job. Only its user can read it; it is removed when the job starts."""
SCALE_REQUEST = "scale.json"
"""The requested number of workers."""
ENVIRONMENT = "environment.json"
"""Environment variables for workers, including secrets; exists only while they start."""
REMOTE_HOSTS = "away.json"
"""Data that Horovod's launcher needs to reach other hosts, including secrets; exists only while it starts."""
LOGS = "logs"
"""One folder of logs for each attempt."""
CHECKPOINTS = "checkpoints"
"""The default directory of checkpoints."""
PROFILES = "profile"
"""Profiles of Horovod and torch."""
BASELINE = "baseline.npz"
"""The outputs of the boosting baseline for the test rows."""
PROGRAM, PROGRAM_STATE = "network.pt2", "network.json"
"""The network that a worker exports for rank zero, and whether it could; exist only until rank zero takes them."""
GIT_STATE = "commit.json"
"""The git commit and the uncommitted changes of the job's folder."""
MLFLOW_RUN_ID = "mlflow_run_id"
"""The id of the MLflow run."""
TRACKING = "tracking"
"""The link to the MLflow run, and a spool of operations for each process that records."""
RUN_LINK = "record.json"
"""The link to the MLflow run, in the folder `tracking`."""

_ATTEMPT = "attempt-"
_LOG = re.compile(r"attempt-(\d+)/rank-(\d+)\.log$")


def jobs_folder() -> Path:
    """Return the folder that holds the directories of all jobs."""
    return home() / JOBS


def job_directory(job_id: str) -> Path:
    """Return where the directory of a job is, or would be.

    Raises:
        SpecError: The id is a path.
    """
    if "/" in job_id or job_id in ("", ".", ".."):
        raise SpecError(f"{job_id or 'an empty text'}: is not the id of a job; `farandole jobs` lists them")
    return jobs_folder() / job_id


def sweeps_folder() -> Path:
    """Return the folder that holds the directories of all sweeps."""
    return home() / SWEEPS


def attempt_logs(directory: Path, number: int) -> Path:
    """Return the folder with the logs of an attempt."""
    return directory / LOGS / f"{_ATTEMPT}{number}"


def newest_attempt(directory: Path) -> int:
    """Return the number of the newest attempt that has logs; 0 if there is none."""
    numbers = [path.name.removeprefix(_ATTEMPT) for path in directory.glob(f"{LOGS}/{_ATTEMPT}*")]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def worker_log(logs: Path, rank: int) -> Path:
    """Return the file with a worker's output, in the folder of an attempt's logs."""
    return logs / f"rank-{rank}.log"


def launcher_log(logs: Path) -> Path:
    """Return the file with the output of Horovod's launcher, in the folder of an attempt's logs."""
    return logs / "launcher.log"


def boosting_log(directory: Path) -> Path:
    """Return the file with the errors and warnings of the boosting baseline."""
    return directory / LOGS / "boosting.log"


def worker_logs(directory: Path) -> list[tuple[int, int, Path]]:
    """Return attempt, rank and path of the logs of all workers, sorted by attempt and rank."""
    found = [(_LOG.search(str(path)), path) for path in (directory / LOGS).glob(f"{_ATTEMPT}*/rank-*.log")]
    return sorted((int(match[1]), int(match[2]), path) for match, path in found if match)
