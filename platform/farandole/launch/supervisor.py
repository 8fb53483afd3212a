"""The job's training from first attempt to last: starts gangs until one reaches the end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from farandole.errors import FarandoleError, TrainingError, UnavailableError
from farandole.events import EventHandler, Message, format_count, ignore_event
from farandole.jobdir.directory import create_job_directory, newest_job_directory, save_spec, training_lock
from farandole.jobdir.scaling import clear_scale_request, requested_workers
from farandole.jobdir.status import StatusWriter, resume_command
from farandole.launch.attempt import Attempt
from farandole.launch.autoscale import Autoscaler
from farandole.launch.failure import Failure
from farandole.launch.gang import GangOptions, run_gang
from farandole.launch.hosts import (
    Host,
    HostSurvey,
    allocate,
    is_local,
    read_hosts_file,
    survey_hosts,
    wait_for_hosts_change,
)
from farandole.launch.restarts import RestartPolicy
from farandole.launch.result import TrainedModel, TrainingSummary
from farandole.launch.ssh.spool_collection import MovedSpool, collect_spools
from farandole.launch.ssh.staging import Staging
from farandole.shards import Manifest, load_key, read_manifest, require_policies
from farandole.spec import Job, home
from farandole.tracking.run_link import read_run_id, read_run_link, write_run_id

_ASK_AGAIN_S, _ASK_AT_LEAST_EVERY_S = 1.0, 30.0
"""Pauses between two questions for hosts: they double from the one to the other."""


def train(
    job: Job,
    on_event: EventHandler = ignore_event,
    *,
    manifest: Manifest | None = None,
    register: bool = False,
    resume: bool = False,
    directory: Path | None = None,
) -> TrainedModel:
    """Train the job's model on its dataset.

    Args:
        job: The job; its dataset lies ready.
        on_event: Is told of progress.
        manifest: The dataset's manifest. Default: it is read.
        register: Whether to add a model version.
        resume: Go on with the newest job of this name instead of starting a new one.
        directory: Where the job keeps its spec, checkpoints and logs. Default: a new one in `$FARANDOLE_HOME/jobs`.

    Raises:
        DatasetError: There is no dataset, it was not protected as the job demands, or the key of its shards is missing.
        EnvironmentLacking: Fewer than `resources.min_workers` answered for longer than `resources.wait_s`.
        ModelError: The builder cannot be used.
        TrainingFailed: The training broke more often than `resources.max_restarts` allows, three times in the same way,
            or the disk is full.
    """
    manifest = manifest or read_manifest(job.data.output)
    require_policies(job.data, manifest)
    load_key(manifest, job.data.output, job.data.shard_key)  # without which no worker gets far
    try:
        if directory is None:
            directory = newest_job_directory(job) if resume else create_job_directory(job)
        with training_lock(directory):
            return _Supervisor(job, directory, register, on_event).run()
    except OSError as error:
        place = error.filename or home() / "jobs"
        raise TrainingError(
            f"{place}: {error.strerror or error}; free some space, or set FARANDOLE_HOME to a place you may write to"
        ) from error


@dataclass
class _Supervisor:
    """Runs one job.

    Args:
        job: The job.
        directory: Its directory, which is held.
        register: Whether to add a model version.
        on_event: Is told of progress.
    """

    job: Job
    directory: Path
    register: bool
    on_event: EventHandler
    _recoveries: list[dict[str, Any]] = field(default_factory=list, init=False)
    _broken: tuple[Failure, float] | None = field(default=None, init=False)
    """The failure after which no step has been made yet, and when it was heard of."""
    _away: set[str] = field(default_factory=set, init=False)
    """Other hosts on which workers have run."""
    _stepping: bool = field(default=False, init=False)
    """Whether the present attempt has made a step."""

    def __post_init__(self) -> None:
        self._record = StatusWriter(self.directory, self.on_event)
        self._restarts = RestartPolicy(self.job.resources.max_restarts)
        self._shipping = Staging(self.job, self.directory)
        self._resizing = Autoscaler(self.job, self.directory, self.on_event)
        self._orders = GangOptions(
            self.job,
            self.directory,
            self.register,
            self.on_event,
            heard=self._heard,
            wants_stop=self._resizing.is_due,
            shipping=self._shipping,
        )

    def run(self) -> TrainedModel:
        """Start gangs until one reaches the end; a later one goes on with the MLflow run of the first."""
        save_spec(self.directory, self.job)
        clear_scale_request(self.directory)
        run_id = read_run_id(self.directory)
        attempt = Attempt(len(list(self.directory.glob("logs/attempt-*"))), mlflow_run_id=run_id)
        self._record.change(mlflow_run_id=run_id)
        try:
            while True:
                attempt = Attempt(attempt.number + 1, self._find_hosts(), mlflow_run_id=attempt.mlflow_run_id)
                self._begin(attempt)
                cause = run_gang(self._orders, attempt)
                if attempt.result is not None and cause is None:
                    return self._succeed(attempt, attempt.result)
                self._go_on(attempt, cause)
        except BaseException as error:
            self._close(attempt, error)
            raise

    def _find_hosts(self) -> tuple[Host, ...]:
        """Hosts for the next attempt, with room for at least `min_workers`; waited for, if need be.

        Raises:
            EnvironmentLacking: There were too few for `resources.wait_s`.
        """
        resources = self.job.resources
        started_s, pause_s = time.monotonic(), _ASK_AGAIN_S
        while True:
            workers = requested_workers(self.directory, resources.workers)
            known = read_hosts_file(resources.hosts)
            found, chosen = self._ready_hosts(workers)
            if found.slots >= min(resources.effective_min_workers, workers):
                missing = workers - sum(host.slots for host in chosen)
                if missing:
                    text = f"{format_count(missing, 'worker')} of {workers} have no place; hosts {found}"
                    self.on_event(Message(text, level="warning"))
                return chosen
            waited_s = time.monotonic() - started_s
            if waited_s + pause_s > resources.wait_s:
                raise UnavailableError(
                    f"resources.hosts: there is room for {found.slots} of at least {resources.effective_min_workers} workers"
                    f" (resources.min_workers) after {waited_s:.0f} s (resources.wait_s); hosts {found}; mend the"
                    " hosts, or ask for fewer workers"
                )
            self._record.change(state="queued", reason=f"waiting for hosts; {found}")
            self.on_event(Message(f"waits for hosts with room for {resources.effective_min_workers} workers; {found}"))
            wait_for_hosts_change(resources.hosts, known, pause_s)
            pause_s = min(2 * pause_s, _ASK_AT_LEAST_EVERY_S)

    def _ready_hosts(self, workers: int) -> tuple[HostSurvey, tuple[Host, ...]]:
        """Look for hosts and make those that are needed ready; one that cannot be made ready counts as silent."""
        found = survey_hosts(self.job.resources.hosts, workers, self.job.backend.hosts)
        while True:
            chosen = allocate(found.answering, workers)
            unready = self._shipping.prepare(chosen)
            if not unready:
                return found, chosen
            found = found.without(unready)

    def _begin(self, attempt: Attempt) -> None:
        self._stepping = False
        self._resizing.begin()
        self._away |= {host.name for host in attempt.hosts if not is_local(host.name)}
        hosts = [str(host) for host in attempt.hosts]
        self._record.event("started", attempt=attempt.number, workers=attempt.workers, hosts=hosts)
        self._record.change(
            state="running",
            reason=f"attempt {attempt.number} is starting",
            attempt=attempt.number,
            workers=attempt.workers,
            hosts=tuple(hosts),
        )

    def _heard(self, attempt: Attempt) -> None:
        """Keep the record true while a gang runs."""
        if attempt.met and self._record.status.reason.endswith("is starting"):
            self._record.event("met", attempt=attempt.number, seconds=_since(attempt.started_s))
            self._record.change(reason=f"attempt {attempt.number} is training")
        if attempt.mlflow_run_id and attempt.mlflow_run_id != self._record.status.mlflow_run_id:
            self._record.change(mlflow_run_id=attempt.mlflow_run_id)
            if read_run_id(self.directory) is None:  # worker 0 is on another host, and has noted it there
                write_run_id(self.directory, attempt.mlflow_run_id)
        if attempt.first_step_s is not None and not self._stepping:
            self._stepping = True
            self._first_step(attempt, attempt.first_step_s)
        self._record.progress(attempt.step, attempt.epoch, attempt.mlflow_run_id)

    def _first_step(self, attempt: Attempt, first_step_s: float) -> None:
        """The gang trains; after a failure, the job has recovered."""
        seconds = round(first_step_s - attempt.started_s, 3)
        self._record.event("first_step", attempt=attempt.number, step=attempt.first_step, seconds=seconds)
        if self._broken is None:
            return
        cause, failed_s = self._broken
        self._broken = None
        found = {
            "attempt": attempt.number,
            "kind": cause.kind,
            "from_step": (attempt.first_step or 1) - 1,
            "seconds": round(first_step_s - failed_s, 3),
        }
        self._recoveries.append(found)
        self._record.event("restarted", **found)

    def _go_on(self, attempt: Attempt, cause: Failure | None) -> None:
        """After an attempt that did not reach the end: wait for the next one, or raise why there is none."""
        if cause is None:
            step = attempt.stopped_step
            wanted = requested_workers(self.directory, self.job.resources.workers)
            self._record.event("scaled", attempt=attempt.number, workers=attempt.workers, to=wanted, step=step)
            where = "from the last checkpoint" if step is None else f"from step {step}"
            self.on_event(Message(f"goes on with {format_count(wanted, 'worker')} {where}"))
            return
        self._record.event("failed", attempt=attempt.number, **cause.to_dict())
        error = self._restarts.refuse(cause)
        if error is not None:
            raise error
        self._broken = self._broken or (cause, attempt.failed_s or time.monotonic())
        pause_s = self._restarts.pause_s()
        self._record.change(reason=f"attempt {attempt.number} failed: {cause.error}")
        text = f"attempt {attempt.number} failed: {cause.error}; starting again from the last checkpoint"
        self.on_event(Message(text, level="warning"))
        time.sleep(pause_s)

    def _collect(self) -> list[MovedSpool]:
        """Fetch what the job's hosts have recorded and MLflow has not taken; of most jobs, nothing."""
        hosts, self._away = self._away, set()
        return collect_spools(self.job.backend.hosts, hosts, self.directory, self.on_event) if hosts else []

    def _succeed(self, attempt: Attempt, result: dict[str, Any]) -> TrainedModel:
        training = TrainingSummary(**result["training"], attempts=attempt.number, recoveries=self._recoveries)
        self._record.event("ended", state="succeeded", attempt=attempt.number)
        self._record.change(state="succeeded", reason="the training reached its end", step=training.steps)
        uri = result["model"]["uri"]
        for moved in self._collect():
            uri = uri.replace(moved.there, moved.here)  # a model that MLflow has not taken
        return TrainedModel(self.job.name, self.directory.name, self.directory, result["dataset"], training, uri)

    def _close(self, attempt: Attempt, error: BaseException) -> None:
        """Say on disk and in MLflow that the job has ended: a chief that was killed could not."""
        failed = isinstance(error, Exception)
        state = "failed" if failed else "cancelled"
        saved = "" if attempt.stopped_step is None else f" after step {attempt.stopped_step} was saved"
        reason = str(error) if failed else f"interrupted{saved}"
        self._record.event("ended", state=state, attempt=attempt.number, reason=reason)
        self._record.change(state=state, reason=reason)
        if not failed and attempt.stopped_step is not None:
            command = resume_command(self.directory)
            self.on_event(Message(f"step {attempt.stopped_step} is saved; `{command}` goes on from there"))
        self._collect()
        if read_run_link(self.directory) is None:
            return
        from farandole.tracking.recorder import close_run  # seconds of import that a job which ends well does not need

        status: Literal["FAILED", "KILLED"] = "FAILED" if isinstance(error, FarandoleError) else "KILLED"
        close_run(self.job.tracking, self.directory, status, self.on_event)


def _since(start_s: float) -> float:
    return round(time.monotonic() - start_s, 3)
