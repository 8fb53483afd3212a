"""Supervision of a job's training: starts one gang after the other until one of them reaches the end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from farandole.errors import FarandoleError, TrainingError, UnavailableError, explain_os_error, is_disk_full
from farandole.events import EventHandler, Message, format_count, ignore_event
from farandole.jobdir.directory import require_job_directory, save_spec
from farandole.jobdir.layout import newest_attempt
from farandole.jobdir.locks import training_lock
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
from farandole.launch.launcher import HOROVOD_LAUNCHER
from farandole.launch.restarts import RestartPolicy
from farandole.launch.result import DatasetSummary, TrainedModel, TrainingSummary
from farandole.launch.ssh.spool_collection import MovedSpool, collect_spools
from farandole.launch.ssh.staging import Staging
from farandole.launch.trained_models import stage_models
from farandole.process.messages import Result
from farandole.process.retry import Backoff
from farandole.shards import Manifest, load_key, read_manifest, require_policies
from farandole.spec import Job
from farandole.tracking.run_link import read_run_id, read_run_link, write_run_id

_HOSTS_BACKOFF = Backoff(first_s=1.0, longest_s=30.0)
"""Pauses between two surveys of the hosts."""


def train(
    job: Job,
    on_event: EventHandler = ignore_event,
    *,
    manifest: Manifest | None = None,
    register: bool = False,
    directory: Path | None = None,
) -> TrainedModel:
    """Train the job's model on its dataset.

    Args:
        job: The job; its dataset must be prepared.
        on_event: Receives the events of the training. An exception that it raises ends the training.
        manifest: The dataset's manifest. Default: it is read.
        register: Whether to register a model version.
        directory: The job's directory. Default: a new one in `$FARANDOLE_HOME/jobs`.

    Raises:
        DatasetError: There is no dataset, it is not protected as the job demands, or the key of its shards is missing.
        UnavailableError: Fewer than `resources.min_workers` answered for longer than `resources.wait_s`.
        ModelError: The builder cannot be used, or a trained model that the job names does not fit.
        TrainingError: The training failed more often than `resources.max_restarts` allows, or several times in the
            same way, or the disk is full.
    """
    if job.has_data:
        manifest = manifest or read_manifest(job.data.output)
        require_policies(job.data, manifest)
        load_key(manifest, job.data.output, job.data.shard_key)  # fail here rather than in every worker
    if directory is None:
        directory = require_job_directory(job)
    with training_lock(directory):
        if manifest is not None:
            job = stage_models(job, manifest, directory, on_event)
        return Supervisor(job, directory, register, on_event).run()


@dataclass
class Supervisor:
    """Supervisor of one job.

    Args:
        job: The job.
        directory: The job's directory, which is locked.
        register: Whether to register a model version.
        on_event: Receives the events of the training.
        launcher: The program that starts the workers. Default: Horovod's launcher.
    """

    job: Job
    directory: Path
    register: bool
    on_event: EventHandler
    launcher: Sequence[str] = HOROVOD_LAUNCHER
    _recoveries: list[dict[str, Any]] = field(default_factory=list, init=False)
    _unrecovered: tuple[Failure, float] | None = field(default=None, init=False)
    """The failure since which no step was completed, and when it was noticed."""
    _remote_hosts: set[str] = field(default_factory=set, init=False)
    """Other hosts on which workers have run."""
    _is_connected: bool = field(default=False, init=False)
    """True once the status says that the workers of the current attempt have connected to each other."""
    _has_stepped: bool = field(default=False, init=False)
    """True once the history says that the current attempt has completed a step."""

    def __post_init__(self) -> None:
        self._status = StatusWriter(self.directory, self.on_event)
        self._restarts = RestartPolicy(self.job.resources.max_restarts)
        self._staging = Staging(self.job, self.directory)
        self._autoscaler = Autoscaler(self.job, self.directory, self.on_event)
        self._options = GangOptions(
            self.job,
            self.directory,
            self.register,
            self.on_event,
            on_change=self._update_status,
            should_stop=self._autoscaler.should_rescale,
            staging=self._staging,
            launcher=self.launcher,
        )

    def run(self) -> TrainedModel:
        """Start gangs until one reaches the end; all of them share one MLflow run.

        Raises:
            FarandoleError: See `train`.
        """
        try:
            return self._run()
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise TrainingError(explain_os_error(error, error.filename or self.directory)) from error

    def _run(self) -> TrainedModel:
        save_spec(self.directory, self.job)
        clear_scale_request(self.directory)
        run_id = read_run_id(self.directory)
        attempt = Attempt(newest_attempt(self.directory), mlflow_run_id=run_id)
        self._status.change(mlflow_run_id=run_id)
        try:
            while True:
                attempt = Attempt(attempt.number + 1, self._find_hosts(), mlflow_run_id=attempt.mlflow_run_id)
                self._start_attempt(attempt)
                failure = run_gang(self._options, attempt)
                if attempt.result is not None and failure is None:
                    return self._succeed(attempt, attempt.result)
                self._prepare_next_attempt(attempt, failure)
        except BaseException as error:
            self._close(attempt, error)
            raise

    def _find_hosts(self) -> tuple[Host, ...]:
        """Return hosts with slots for at least `min_workers`, and wait for them if necessary.

        Raises:
            UnavailableError: There were too few for `resources.wait_s`.
        """
        resources = self.job.resources
        min_workers = resources.effective_min_workers
        started_s = time.monotonic()
        for surveys in itertools.count(1):
            workers = requested_workers(self.directory, resources.workers)
            known = read_hosts_file(resources.hosts)
            survey, allocated = self._prepare_hosts(workers)
            if survey.slots >= min(min_workers, workers):
                missing = workers - sum(host.slots for host in allocated)
                if missing:
                    text = f"{format_count(missing, 'worker')} of {workers} cannot start: no free slot; hosts {survey}"
                    self.on_event(Message(text, level="warning"))
                return allocated
            waited_s, pause_s = time.monotonic() - started_s, _HOSTS_BACKOFF.pause_s(surveys)
            if waited_s + pause_s > resources.wait_s:
                raise UnavailableError(
                    f"resources.hosts: after {waited_s:.0f} s (resources.wait_s) there are slots for {survey.slots}"
                    f" workers, but at least {min_workers} are needed (resources.min_workers); hosts"
                    f" {survey}; repair the hosts, or request fewer workers"
                )
            self._status.change(state="queued", reason=f"waiting for hosts; {survey}")
            self.on_event(Message(f"waiting for hosts with slots for {min_workers} workers; {survey}"))
            wait_for_hosts_change(resources.hosts, known, pause_s)
        raise AssertionError("unreachable")

    def _prepare_hosts(self, workers: int) -> tuple[HostSurvey, tuple[Host, ...]]:
        """Survey the hosts and prepare those that are needed; a host that cannot be prepared counts as silent."""
        survey = survey_hosts(self.job.resources.hosts, workers, self.job.backend.hosts)
        while True:
            allocated = allocate(survey.answering, workers)
            unready = self._staging.prepare(allocated)
            if not unready:
                return survey, allocated
            survey = survey.without(unready)

    def _start_attempt(self, attempt: Attempt) -> None:
        self._is_connected = self._has_stepped = False
        self._autoscaler.start_attempt()
        self._remote_hosts |= {host.name for host in attempt.hosts if not is_local(host.name)}
        hosts = [str(host) for host in attempt.hosts]
        self._status.event("started", attempt=attempt.number, workers=attempt.workers, hosts=hosts)
        self._status.change(
            state="running",
            reason=f"attempt {attempt.number} is starting",
            attempt=attempt.number,
            workers=attempt.workers,
            hosts=tuple(hosts),
        )

    def _update_status(self, attempt: Attempt) -> None:
        """Update status and history while a gang runs."""
        if attempt.is_connected and not self._is_connected:
            self._is_connected = True
            self._status.event("met", attempt=attempt.number, seconds=_seconds_since(attempt.started_s))
            self._status.change(reason=f"attempt {attempt.number} is training")
        if attempt.mlflow_run_id and attempt.mlflow_run_id != self._status.status.mlflow_run_id:
            self._status.change(mlflow_run_id=attempt.mlflow_run_id)
            if read_run_id(self.directory) is None:  # worker 0 has written it on another host
                write_run_id(self.directory, attempt.mlflow_run_id)
        if attempt.first_step_s is not None and not self._has_stepped:
            self._has_stepped = True
            self._register_first_step(attempt, attempt.first_step_s)
        self._status.progress(attempt.step, attempt.epoch, attempt.mlflow_run_id)

    def _register_first_step(self, attempt: Attempt, first_step_s: float) -> None:
        """Register that the gang trains, so that the job has recovered from an earlier failure."""
        seconds = round(first_step_s - attempt.started_s, 3)
        self._status.event("first_step", attempt=attempt.number, step=attempt.first_step, seconds=seconds)
        if self._unrecovered is None:
            return
        failure, failed_s = self._unrecovered
        self._unrecovered = None
        recovery = {
            "attempt": attempt.number,
            "kind": failure.kind,
            "from_step": (attempt.first_step or 1) - 1,
            "seconds": round(first_step_s - failed_s, 3),
        }
        self._recoveries.append(recovery)
        self._status.event("restarted", **recovery)

    def _prepare_next_attempt(self, attempt: Attempt, failure: Failure | None) -> None:
        """Wait for the next attempt after one that was stopped or failed.

        Raises:
            FarandoleError: No further attempt is made.
        """
        if failure is None:
            step = attempt.stopped_step
            workers = requested_workers(self.directory, self.job.resources.workers)
            self._status.event("scaled", attempt=attempt.number, workers=attempt.workers, to=workers, step=step)
            start = "from the last checkpoint" if step is None else f"from step {step}"
            self.on_event(Message(f"resuming with {format_count(workers, 'worker')} {start}"))
            return
        self._status.event("failed", attempt=attempt.number, **failure.to_dict())
        error = self._restarts.register(failure)
        if error is not None:
            raise error
        self._unrecovered = self._unrecovered or (failure, attempt.failed_s or time.monotonic())
        pause_s = self._restarts.pause_s()
        reason = f"attempt {attempt.number} failed: {failure.error}"
        self._status.change(reason=reason)
        self.on_event(Message(f"{reason}; restarting from the last checkpoint", level="warning"))
        time.sleep(pause_s)

    def _collect_spools(self) -> list[MovedSpool]:
        """Fetch the records on other hosts that MLflow has not received; usually there are none."""
        hosts, self._remote_hosts = self._remote_hosts, set()
        return collect_spools(self.job.backend.hosts, hosts, self.directory, self.on_event) if hosts else []

    def _succeed(self, attempt: Attempt, result: Result) -> TrainedModel:
        training = TrainingSummary(**result.training, attempts=attempt.number, recoveries=self._recoveries)
        self._status.event("ended", state="succeeded", attempt=attempt.number)
        self._status.change(state="succeeded", reason="the training reached its end", step=training.steps)
        uri = str(result.model["uri"])
        for moved in self._collect_spools():
            uri = uri.replace(moved.source, moved.target)  # a model that MLflow has not received
        dataset = DatasetSummary(**result.dataset) if result.dataset is not None else None
        failure = result.model.get("not_registered")
        return TrainedModel(self.job.name, self.directory.name, self.directory, dataset, training, uri, failure)

    def _close(self, attempt: Attempt, error: BaseException) -> None:
        """Record on disk and in MLflow that the job has ended: rank zero could not if it was killed."""
        has_failed = isinstance(error, Exception)
        state = "failed" if has_failed else "cancelled"
        saved = "" if attempt.stopped_step is None else f" after step {attempt.stopped_step} was saved"
        reason = str(error) if has_failed else f"interrupted{saved}"
        self._status.event("ended", state=state, attempt=attempt.number, reason=reason)
        steps = {} if attempt.stopped_step is None else {"step": attempt.stopped_step}
        self._status.change(state=state, reason=reason, **steps)
        if not has_failed and attempt.stopped_step is not None:
            text = f"step {attempt.stopped_step} is saved; `{resume_command(self.directory)}` resumes from there"
            self.on_event(Message(text))
        self._collect_spools()
        if read_run_link(self.directory) is None:
            return
        from farandole.tracking.recorder import (
            close_run,  # takes seconds to import, which a successful job need not pay
        )

        status: Literal["FAILED", "KILLED"] = "FAILED" if isinstance(error, FarandoleError) else "KILLED"
        close_run(self.job.tracking, self.directory, status, self.on_event)


def _seconds_since(start_s: float) -> float:
    return round(time.monotonic() - start_s, 3)
