"""A sweep: trials of a job with different values, ended early where others do better, and the job file of the best."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from farandole.errors import SpecError, TrainingError
from farandole.events import (
    EpochMetrics,
    Event,
    EventHandler,
    Message,
    Progress,
    StageEnded,
    StageStarted,
    format_count,
    format_metric,
    ignore_event,
)
from farandole.ingest.prepared import PreparedDataset
from farandole.jobdir.directory import create_directory, load_job, newest_directory, save_spec
from farandole.jobdir.layout import sweeps_folder
from farandole.jobdir.outcome import read_result
from farandole.pipeline import CheckedJob
from farandole.process.locks import try_lock
from farandole.spec import Job, Sweep, metric_key, save_job, with_overrides
from farandole.sweeping import plots
from farandole.sweeping.study import Study
from farandole.sweeping.trial import State, Trial
from farandole.sweeping.trial_jobs import LocalTrialJobs, TrialEnded
from farandole.tracking.recorder import Recorder, record_run, tag_run
from farandole.tracking.run_link import read_run_id

_MAX_INITIAL_FAILURES = 3
"""The sweep ends if its first trials, this many or more, have all failed: others would fail as well."""
_POLL_S = 0.2
_RESUMABLE_CHANGES = ("trials", "timeout_s", "parallel")
"""Fields of `sweep` that may change when a sweep is resumed."""
_BEST_FILE = "best.yaml"


@dataclass(frozen=True)
class SweepResult:
    """A sweep that reached its end.

    Args:
        id: Its id.
        directory: Where it keeps its study and the best job file.
        metric: The validation metric.
        direction: `minimize` or `maximize`.
        trials: All trials.
        best: The best of them.
        best_file: The job file with the best values.
        mlflow_run_id: The parent of the trials' MLflow runs; None while the store has not created it.
    """

    id: str
    directory: Path
    metric: str
    direction: str
    trials: tuple[Trial, ...]
    best: Trial
    best_file: Path
    mlflow_run_id: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the result document of `farandole sweep --json`."""
        return {
            "id": self.id,
            "directory": str(self.directory),
            "metric": self.metric,
            "direction": self.direction,
            "trials": [trial.to_dict() for trial in self.trials],
            "best": {**self.best.to_dict(), "job_file": str(self.best_file)},
            "mlflow_run_id": self.mlflow_run_id,
        }


class TrialJobs(Protocol):
    """Runner of a sweep's trials."""

    def submit(self, number: int, job: Job) -> None:
        """Submit a trial; it begins as soon as a slot is free."""

    def directory(self, number: int) -> Path:
        """Return the directory of a trial's job."""

    def poll(self) -> list[tuple[int, Event | TrialEnded]]:
        """Return what the trials have reported since the last call, in order: trial number and event."""

    def cancel(self, number: int) -> None:
        """Ask a trial to end; `poll` reports when it has."""


def run_sweep(
    checked: CheckedJob,
    prepared: PreparedDataset,
    on_event: EventHandler = ignore_event,
    *,
    resume: bool = False,
) -> SweepResult:
    """Train the job with many values on its dataset, and write the job file of the best.

    Args:
        checked: The job, with `sweep`.
        prepared: Its dataset.
        on_event: Receives the events of the sweep.
        resume: Continue the newest sweep of this job; trials that were running start again.

    Raises:
        SpecError: The job has no sweep, its dataset has no validation split, or the sweep to resume differs.
        TrainingError: No trial reached its end.
    """
    job = checked.job
    spec = require_sweep(job)
    if not prepared.manifest.rows("validation"):
        raise SpecError("data.split.validation: there are no validation rows to compare trials by; add some")
    directory = _resumed_directory(job) if resume else create_directory(sweeps_folder(), job.name)
    lock = try_lock(directory)
    if lock is None:
        raise SpecError(f"--resume: {directory.name} is still running; wait for it, or end it first")
    with lock:
        if resume:
            _check_resumable(directory, job)
        save_spec(directory, job)
        metric = spec.metric or job.metrics[0]
        study = Study(directory, spec, spec.goal(metric) or "maximize")
        with record_run(job.tracking, directory, on_event, job=job) as recorder:
            recorder.log_params(job)
            recorder.set_tags({"farandole.sweep": directory.name})
            with LocalTrialJobs(directory, spec.parallel) as jobs:
                SweepLoop(job, spec, directory.name, metric, study, jobs, recorder, on_event).run()
            best = study.best
            if best is None:
                reasons = [trial.reason for trial in study.trials if trial.reason]
                raise TrainingError(
                    f"sweep: none of {format_count(len(study.trials), 'trial')} reached its end"
                    + (f"; the last one: {reasons[-1]}" if reasons else "")
                )
            best_file = save_job(with_overrides(job, best.values), directory / _BEST_FILE)
            _record_results(recorder, study, spec, metric, best, best_file)
    run_id = read_run_id(directory)
    return SweepResult(directory.name, directory, metric, study.direction, tuple(study.trials), best, best_file, run_id)


def _resumed_directory(job: Job) -> Path:
    """Return the directory of the newest sweep of this job."""
    directory = newest_directory(sweeps_folder(), job.name)
    if directory is None:
        raise SpecError(f"--resume: no sweep of {job.name} has been started here; leave --resume out")
    return directory


def _check_resumable(directory: Path, job: Job) -> None:
    """Check that a resumed sweep searches the same space for the same goal."""
    try:
        before = load_job(directory)
    except FileNotFoundError:
        return  # killed before it wrote the file, so nothing was trained yet
    if _comparable(before) != _comparable(job):
        raise SpecError(
            f"--resume: {directory.name} is a sweep of a different job; only"
            f" {', '.join(f'sweep.{name}' for name in _RESUMABLE_CHANGES)} may change. Leave --resume out to start"
            " a new sweep"
        )


def _comparable(job: Job) -> dict[str, Any]:
    ignored: dict[str, Any] = {"tracking": True, "serve": True, "sweep": set(_RESUMABLE_CHANGES)}
    fields: dict[str, Any] = job.model_dump(mode="json", exclude=ignored)
    return fields


def require_sweep(job: Job) -> Sweep:
    """Return the job's sweep.

    Raises:
        SpecError: It has none.
    """
    if job.sweep is None:
        raise SpecError("sweep: missing from the job; add `sweep: {space: {FIELD: {low: …, high: …}}}`")
    return job.sweep


@dataclass
class SweepLoop:
    """Starts trials, follows them, and records how they end.

    Args:
        job: The job.
        spec: Its sweep.
        sweep_id: The sweep's id.
        metric: The validation metric.
        study: Draws the values.
        jobs: Runs the trials.
        recorder: Records the parent run.
        on_event: Receives the events of the sweep.
    """

    job: Job
    spec: Sweep
    sweep_id: str
    metric: str
    study: Study
    jobs: TrialJobs
    recorder: Recorder
    on_event: EventHandler
    _running: dict[int, _RunningTrial] = field(default_factory=dict, init=False)

    def run(self) -> None:
        """Train until no trial is left."""
        started_s = time.monotonic()
        trials = format_count(self.spec.num_trials, "trial")
        self.on_event(StageStarted("sweep", f"{trials}, {self.metric} on validation"))
        try:
            while True:
                is_late = self.spec.timeout_s is not None and time.monotonic() - started_s > self.spec.timeout_s
                while len(self._running) < self.spec.parallel and not is_late and self._start():
                    pass
                if not self._running:
                    break
                self._follow()
                self._give_up_if_hopeless()
        except BaseException:
            self.study.interrupt()
            raise
        if is_late and len(self.study.trials) < self.spec.num_trials:
            text = f"sweep.timeout_s: {self.spec.timeout_s:g} s have passed, so no further trial was started"
            self.on_event(Message(text, level="warning"))
        best = self.study.best
        shown = "none reached its end"
        if best is not None and best.value is not None:
            shown = f"best {self._shown(best.value)} by trial {best.number}"
        self.on_event(StageEnded("sweep", f"{format_count(len(self.study.trials), 'trial')}; {shown}"))

    def _start(self) -> bool:
        """Start the next trial; return whether there was one."""
        asked = self.study.ask()
        if asked is None:
            return False
        number, values = asked
        self._running[number] = _RunningTrial(values, self.jobs.directory(number))
        try:
            job = with_overrides(self.job, values)
        except SpecError as error:  # each value is allowed, but not all of them together
            self._end(number, TrialEnded("failed", str(error)))
            return True
        name = f"{self.job.name[:42].rstrip('-')}-trial-{number}"
        # Boosting would learn the same rows again in every trial.
        baseline = "trivial" if job.train.baseline == "auto" else job.train.baseline
        train = job.train.model_copy(update={"baseline": baseline})
        self.jobs.submit(number, job.model_copy(update={"name": name, "train": train}))
        return True

    def _follow(self) -> None:
        """Handle what the trials have reported, or wait a moment where they have not."""
        reported = self.jobs.poll()
        if not reported:
            time.sleep(_POLL_S)
        for number, event in reported:
            if isinstance(event, TrialEnded):
                self._end(number, event)
            elif isinstance(event, EpochMetrics):
                self._handle_metrics(number, event)
            elif isinstance(event, Message) and event.level == "warning":
                self.on_event(Message(f"trial {number}: {event.text}", level="warning"))

    def _handle_metrics(self, number: int, event: EpochMetrics) -> None:
        """Record a trial's validation metric, and end the trial where the others do better."""
        trial = self._running[number]
        value = event.metrics.get(metric_key(self.metric))  # absent where the validation rows do not define it
        is_hopeless = False
        if value is not None:
            trial.value = float(value)
            is_hopeless = self.study.report(number, event.epoch, trial.value) and event.epoch < event.epochs
        shown = f"no {self.metric}" if value is None else self._shown(value)
        text = f"trial {number}: epoch {event.epoch} of {event.epochs}, {shown}"
        left_s = self._left_s(trial, event)
        self.on_event(
            Progress("sweep", len(self.study.trials), self.spec.num_trials, "trials", text, left_s=round(left_s, 1))
        )
        if is_hopeless and not trial.is_pruned:
            trial.is_pruned = True
            self.jobs.cancel(number)

    def _left_s(self, trial: _RunningTrial, event: EpochMetrics) -> float:
        """Estimate the seconds until the end of the sweep, when a trial has finished an epoch."""
        now_s = time.monotonic()
        ended_s = [each.seconds for each in self.study.trials if each.seconds]
        passed_s = [now_s - each.started_s for each in self._running.values()]
        pace_s = (now_s - trial.started_s) * event.epochs / max(1, event.epoch)
        waiting = max(0, self.spec.num_trials - len(self.study.trials) - len(passed_s))
        return estimate_left_s(ended_s or [pace_s], passed_s, waiting, self.spec.parallel)

    def _end(self, number: int, end: TrialEnded) -> None:
        """Record how a trial ended, in the study and in MLflow."""
        trial = self._running.pop(number)
        if end.state == "succeeded":
            trial.value = self._final_value(trial)
        ended = trial.finish(number, end, self.metric)
        self.study.record(ended)
        if ended.state == "failed":
            self.on_event(Message(f"trial {number} failed: {ended.reason}", level="warning"))
        tags = {"farandole.sweep": self.sweep_id, "farandole.trial": str(number)}
        tag_run(self.job.tracking, trial.directory, {**tags, "farandole.trial_state": ended.state})
        best = self.study.best
        values = {"trial.value": ended.value, "best.value": best.value if best else None}
        self.recorder.log_metrics({name: value for name, value in values.items() if value is not None}, number)
        value = "" if ended.value is None else f" {self._shown(ended.value)}"
        text = f"trial {number}: {ended.state}{value} ({ended.shown_values})"
        if best is not None and best.value is not None:
            text += f"; best {format_metric(best.value)} by trial {best.number}"
        self.on_event(Message(text))

    def _final_value(self, trial: _RunningTrial) -> float | None:
        """Return the metric of the weights that the trial kept; they need not be those of its last epoch."""
        document = read_result(trial.directory)
        if document is None:
            return trial.value
        validation, key = document["training"]["metrics"]["validation"], metric_key(self.metric)
        value: float | None = validation.get(key, trial.value)
        return math.nan if value is None and key in validation else value  # JSON has no NaN

    def _give_up_if_hopeless(self) -> None:
        states = [trial.state for trial in self.study.trials]
        if len(states) >= _MAX_INITIAL_FAILURES and set(states) == {"failed"}:
            reason = self.study.trials[-1].reason
            raise TrainingError(f"sweep: the first {len(states)} trials failed, so others would as well: {reason}")

    def _shown(self, value: float) -> str:
        return f"{self.metric} {format_metric(value)}"


def estimate_left_s(ended_s: list[float], passed_s: list[float], waiting: int, parallel: int) -> float:
    """Return the seconds until all trials have ended, if each takes as long as those so far.

    Args:
        ended_s: Seconds that the trials so far took; at least one.
        passed_s: Seconds since the start of each trial that runs.
        waiting: Number of trials that have not started.
        parallel: Number of trials that run at once.
    """
    whole_s = sum(ended_s) / len(ended_s)
    rest_s = waiting * whole_s + sum(max(0.0, whole_s - each) for each in passed_s)
    return rest_s / max(1, min(parallel, waiting + len(passed_s)))


@dataclass
class _RunningTrial:
    """A trial that has not ended."""

    values: dict[str, Any]
    directory: Path
    value: float | None = None
    is_pruned: bool = False
    started_s: float = field(default_factory=time.monotonic)

    def finish(self, number: int, end: TrialEnded, metric: str) -> Trial:
        """Return the trial as it ended."""
        has_value = self.value is not None and math.isfinite(self.value)
        has_succeeded = end.state == "succeeded"
        state: State = "complete" if has_succeeded and has_value else "failed"
        if self.is_pruned and not has_succeeded:
            state = "pruned"
        reason = None
        if state == "failed":
            reason = f"{_explain_value(metric, self.value)}; see {self.directory}" if has_succeeded else end.reason
        return Trial(
            number=number,
            state=state,
            value=self.value if has_value else None,
            values=self.values,
            job_id=self.directory.name,
            mlflow_run_id=read_run_id(self.directory),
            seconds=round(time.monotonic() - self.started_s, 1),
            reason=reason,
        )


def _explain_value(metric: str, value: float | None) -> str:
    """Explain why a trial has no value to compare."""
    if value is None:
        return f"the validation rows have no {metric}, which may need rows of each class"
    return f"{metric} was {value}"


def _record_results(recorder: Recorder, study: Study, spec: Sweep, metric: str, best: Trial, best_file: Path) -> None:
    """Record in the parent run: plots, the best job file, and the number of its trial."""
    trials = [trial for trial in study.trials if trial.value is not None]
    recorder.log_figure(plots.parallel_coordinates(trials, spec.space, metric, study.direction), "parallel_coordinates")
    importances = study.importances()
    if importances:
        recorder.log_figure(plots.importances(importances, metric), "importances")
    recorder.log_file(_BEST_FILE, best_file.read_text(encoding="utf-8"))
    recorder.log_json({"trials": [trial.to_dict() for trial in study.trials]}, "trials.json")
    recorder.set_tags({"farandole.best_trial": str(best.number), "farandole.best_run": best.mlflow_run_id or ""})
