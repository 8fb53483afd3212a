"""Jobs in the foreground: `farandole run` and `farandole train` leave the same traces as a submitted job.

The process of the job holds a lock while it lives, so its state is right at any moment, however it ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from farandole.errors import FarandoleError, SpecError, UserError, closest_match
from farandole.events import Event, EventHandler
from farandole.jobdir.checkpoints import newest_checkpoint
from farandole.jobdir.directory import newest_directory, require_job_directory, save_spec
from farandole.jobdir.layout import (
    FINALIZER_LOCK,
    FOREGROUND,
    FOREGROUND_LOCK,
    LOG,
    RUNNER_LOCK,
    job_directory,
    jobs_folder,
)
from farandole.jobdir.locks import GLANCE_S, foreground_directories, is_foreground_job, is_training
from farandole.jobdir.outcome import EventLogger, append_log, clear_outcome, write_result
from farandole.jobdir.status import JobState, timestamp
from farandole.process.atomic import remove_drafts, write_json
from farandole.process.identity import ProcessIdentity
from farandole.process.locks import is_locked, lock_within, try_lock
from farandole.spec import Job

_FINALIZER_S = 120.0
"""Seconds within which the MLflow run of a killed job is closed, so that the job can continue."""


@dataclass(frozen=True)
class ForegroundRecord:
    """The start of a job in the foreground, and its end.

    Args:
        name: The job's name.
        started_at: When it was started first, in ISO 8601, UTC.
        since: When its state began, in ISO 8601, UTC.
        state: `running`, or how it ended.
        reason: Why it ended; empty while it runs.
        starts: Number of starts.
        process: The process that runs it.
        resume: The command that continues it.
    """

    name: str
    started_at: str
    since: str
    state: JobState
    reason: str
    starts: int
    process: ProcessIdentity
    resume: str


@dataclass(frozen=True)
class ForegroundJob:
    """A job that runs in this process.

    Args:
        directory: Its directory.
        on_event: Logs events, and passes them on.
    """

    directory: Path
    on_event: EventHandler

    def write_result(self, document: dict[str, Any]) -> None:
        """Write the result document."""
        write_result(self.directory, document)


@contextmanager
def foreground_job(
    job: Job, on_event: EventHandler, *, directory: Path | None = None, resume: str = ""
) -> Iterator[ForegroundJob]:
    """Register this process as a job, for the length of the block: with its state, its progress and its log.

    Args:
        job: The job.
        on_event: Receives the events of the job as well.
        directory: The directory of the job to continue. Default: a new one.
        resume: The command that continues the job if it fails; its id is appended. Default: `farandole retry`.

    Raises:
        SpecError: The job to continue is still running, or is in the queue.
        TrainingError: The directory cannot be written.
    """
    directory = directory or require_job_directory(job)
    with _stopped(directory):
        record = _start(directory, job, resume)
        with (directory / LOG).open("a", encoding="utf-8") as log:
            logger = EventLogger(directory, log)

            def handle(event: Event) -> None:
                logger(event)
                on_event(event)

            try:
                yield ForegroundJob(directory, handle)
            except BaseException as error:
                has_failed = isinstance(error, Exception)
                _end(directory, record, "failed" if has_failed else "cancelled", _reason(error))
                if isinstance(error, FarandoleError) and not isinstance(error, UserError):
                    error.next_step = next_step(directory, record.resume)
                raise
        _end(directory, record, "succeeded", "completed")


@contextmanager
def _stopped(directory: Path) -> Iterator[None]:
    """Hold the lock of a job in the foreground that does not run, for the length of the block.

    Raises:
        SpecError: It is still running, or is in the queue.
    """
    lock = lock_within(directory / FOREGROUND_LOCK, GLANCE_S)
    if lock is None:
        raise _still_running(directory)
    with lock:
        if (directory / RUNNER_LOCK).exists():
            raise was_submitted(directory.name)
        if is_training(directory):
            raise _still_running(directory)
        closing = lock_within(directory / FINALIZER_LOCK, _FINALIZER_S)
        if closing is None:
            raise SpecError(
                f"{directory.name}: another process still closes its MLflow run; wait until the MLflow server answers"
            )
        closing.release()
        yield


def _still_running(directory: Path) -> SpecError:
    return SpecError(f"{directory.name}: is still running; wait for it, or end it first")


def was_submitted(job_id: str) -> SpecError:
    """Return the error for a job that only the queue starts."""
    return SpecError(f"{job_id}: was submitted, so --resume does not start it; use `farandole retry {job_id}`")


def next_step(directory: Path, command: str) -> str:
    """Return what a command does with a job that failed or was cancelled.

    Args:
        directory: The job's directory.
        command: The command that continues it.
    """
    checkpoint = newest_checkpoint(directory)
    if checkpoint is None:
        return f"`{command}` starts it again"
    return f"`{command}` continues it from its checkpoint after step {checkpoint.step:,}"


def _start(directory: Path, job: Job, resume: str) -> ForegroundRecord:
    known, now = read_foreground(directory), timestamp()
    save_spec(directory, job)
    clear_outcome(directory)
    started_at, starts = (known.started_at, known.starts) if known else (now, 0)
    record = ForegroundRecord(
        job.name,
        started_at,
        now,
        "running",
        "",
        starts + 1,
        ProcessIdentity.current(),
        f"{resume or 'farandole retry'} {directory.name}",
    )
    _write(directory, record)
    append_log(directory, "starts in the foreground")
    return record


def _reason(error: BaseException) -> str:
    if not isinstance(error, Exception):
        return "interrupted"
    return str(error) or type(error).__name__


def _end(directory: Path, record: ForegroundRecord, state: JobState, reason: str) -> None:
    """Record the end; where the disk is full, the free lock still shows that the process has ended."""
    append_log(directory, f"{state}: {reason}")
    try:
        _write(directory, replace(record, state=state, reason=reason, since=timestamp()))
    except OSError:
        return


def _write(directory: Path, record: ForegroundRecord) -> None:
    write_json(directory / FOREGROUND, asdict(record), indent=1)


def read_foreground(directory: Path) -> ForegroundRecord | None:
    """Return the record of a job as its process left it; None if it was not started in the foreground."""
    try:
        raw: dict[str, Any] = json.loads((directory / FOREGROUND).read_text(encoding="utf-8"))
        return ForegroundRecord(**{**raw, "process": ProcessIdentity(**raw["process"])})
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_running(directory: Path) -> bool:
    """Return whether the process of a job in the foreground lives."""
    try:
        return is_locked(directory / FOREGROUND_LOCK)
    except FileNotFoundError:
        return False


def reconcile(directory: Path) -> tuple[ForegroundRecord, bool]:
    """Return the record of a job, brought up to date where its process was killed.

    Returns:
        The record, and whether this call has recorded the death of the process.

    Raises:
        FileNotFoundError: It was not started in the foreground.
    """
    record = read_foreground(directory)
    if record is None:
        raise FileNotFoundError(directory / FOREGROUND)
    if record.state != "running":
        return record, False
    lock = try_lock(directory / FOREGROUND_LOCK)
    if lock is None:
        return record, False
    with lock:
        record = read_foreground(directory) or record
        if record.state != "running":  # it ended, or another process was faster
            return record, False
        remove_drafts(directory)
        reason = f"its process {record.process.pid} was killed"
        _end(directory, record, "failed", reason)
        return replace(record, state="failed", reason=reason, since=timestamp()), True


def find_foreground_directory(job_id: str) -> Path:
    """Return the directory of a job in the foreground.

    Raises:
        SpecError: There is no such job.
    """
    directory = job_directory(job_id)
    if not is_foreground_job(directory):
        close = closest_match(job_id, [each.name for each in foreground_directories()])
        hint = f"did you mean {close}?" if close else "`farandole jobs` lists them"
        raise SpecError(f"{job_id}: there is no such job in the foreground; {hint}")
    return directory


def foreground_directory_of(job_id: str, name: str) -> Path:
    """Return the directory of a job in the foreground that a job file of this name continues.

    Args:
        job_id: The job.
        name: The name in the job file.

    Raises:
        SpecError: There is no such job, or it has another name.
    """
    directory = find_foreground_directory(job_id)
    record = _readable(directory)
    if record is not None and record.name != name:
        raise SpecError(f"{job_id}: is a job of {record.name}, and the job file's name is {name}; use its own job file")
    return directory


def newest_foreground_directory(name: str) -> Path:
    """Return the directory of the job of a name that was started last in the foreground.

    Args:
        name: The name in the job file.

    Raises:
        SpecError: There is none.
    """
    started = [
        (record.started_at, directory)
        for directory in foreground_directories()
        if (record := _readable(directory)) is not None and record.name == name
    ]
    if started:
        return max(started)[1]
    submitted = newest_directory(jobs_folder(), name)
    if submitted is not None:
        raise was_submitted(submitted.name)
    raise SpecError(f"--resume: no job named {name} has been started here; leave --resume out")


def _readable(directory: Path) -> ForegroundRecord | None:
    try:
        return read_foreground(directory)
    except (ValueError, TypeError, KeyError):
        return None  # torn, or by another version


@contextmanager
def handed_over(directory: Path) -> Iterator[None]:
    """Hand a job that was started in the foreground to the queue, in which the block puts it.

    If the block raises, the job stays in the foreground. A process that is killed in between leaves a job that is in
    both, and belongs to the queue once a runner has it.

    Raises:
        SpecError: It is still running, or has succeeded.
    """
    reconcile(directory)
    with _stopped(directory):
        record = read_foreground(directory)
        if record is not None and record.state == "succeeded":
            raise SpecError(f"{directory.name}: has succeeded; only a job that failed or was cancelled can be retried")
        yield
        (directory / RUNNER_LOCK).touch()
        (directory / FOREGROUND).unlink(missing_ok=True)
