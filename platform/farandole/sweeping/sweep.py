"""A sweep from its first trial to its best: draws, trains, ends what is hopeless, and tells. Reads top to bottom."""

from __future__ import annotations

import fcntl
import json
import math
import os
import queue
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farandole.errors import SpecError, TrainingError
from farandole.events import EventHandler, Message, Progress, StageEnded, StageStarted, format_count, ignore_event
from farandole.ingest.prepared import PreparedDataset
from farandole.pipeline import CheckedJob
from farandole.spec import Job, Sweep, parse_job, save_job, with_overrides
from farandole.storage import home
from farandole.sweeping import plots
from farandole.sweeping.process import Heard, TrialProcess
from farandole.sweeping.study import Study
from farandole.sweeping.trial import State, Trial
from farandole.tracking.recorder import Recorder, record_run, tag_run
from farandole.tracking.run_link import read_run_id

_HOPELESS = 3
"""So many failed trials, and none that did not fail, end a sweep: more would fail as well."""
_MAY_CHANGE = ("trials", "timeout_s", "parallel")
"""What a resumed sweep may do otherwise."""
_BEST = "best.yaml"


@dataclass(frozen=True)
class SweepResult:
    """A sweep that reached its end.

    Args:
        id: Its id.
        directory: Where it keeps its study, and the best job file.
        metric: The validation metric.
        direction: `minimize` or `maximize`.
        trials: All trials.
        best: The best of them.
        best_file: The job file with the best values.
        mlflow_run_id: The parent of the trials' MLflow runs, if the store has made it.
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
        """The result document."""
        return {
            "id": self.id,
            "directory": str(self.directory),
            "metric": self.metric,
            "direction": self.direction,
            "trials": [trial.to_dict() for trial in self.trials],
            "best": {**self.best.to_dict(), "job_file": str(self.best_file)},
            "mlflow_run_id": self.mlflow_run_id,
        }


def run_sweep(
    checked: CheckedJob, prepared: PreparedDataset, on_event: EventHandler = ignore_event, *, resume: bool = False
) -> SweepResult:
    """Train the job with many values on its dataset, and write the job file of the best.

    Args:
        checked: The job, with `sweep`.
        prepared: Its dataset.
        on_event: Is told of progress.
        resume: Go on with the newest sweep of this job; the trials that were under way begin again.

    Raises:
        SpecError: The job has no sweep, its dataset has no validation split, or the sweep to resume is another one.
        TrainingFailed: No trial came to its end.
    """
    job = checked.job
    spec = require_sweep(job)
    if not prepared.manifest.rows("validation"):
        raise SpecError("data.split.validation: there are no validation rows, by which trials are compared; add some")
    directory = _newest_directory(job) if resume else _new_directory(job)
    with _locked(directory):
        _keep_job(directory, job)
        metric = spec.metric or job.metrics[0]
        study = Study(directory, spec, spec.goal(metric) or "maximize")
        with record_run(job.tracking, directory, on_event) as recorder:
            recorder.log_params(job)
            recorder.set_tags({"farandole.sweep": directory.name})
            _Sweeping(job, spec, directory, metric, study, recorder, on_event).run()
            best = study.best
            if best is None:
                reasons = [trial.reason for trial in study.trials if trial.reason]
                raise TrainingError(
                    f"sweep: none of {format_count(len(study.trials), 'trial')} came to its end"
                    + (f"; the last one: {reasons[-1]}" if reasons else "")
                )
            best_file = save_job(with_overrides(job, best.values), directory / _BEST)
            _record_results(recorder, study, spec, metric, best, best_file)
    run_id = read_run_id(directory)
    return SweepResult(directory.name, directory, metric, study.direction, tuple(study.trials), best, best_file, run_id)


def require_sweep(job: Job) -> Sweep:
    """The job's sweep.

    Raises:
        SpecError: It has none.
    """
    if job.sweep is None:
        raise SpecError("sweep: there is none in the job; write `sweep: {space: {FIELD: {low: …, high: …}}}`")
    return job.sweep


@dataclass
class _Sweeping:
    """The trials that run, and what is heard of them."""

    job: Job
    spec: Sweep
    directory: Path
    metric: str
    study: Study
    recorder: Recorder
    on_event: EventHandler
    heard: queue.Queue[Heard] = field(default_factory=queue.Queue)
    running: dict[int, _Running] = field(default_factory=dict)

    def run(self) -> None:
        """Train until no trial is left; however it ends, no process is."""
        began = time.monotonic()
        self.on_event(
            StageStarted("sweep", f"{format_count(self.spec.num_trials, 'trial')}, {self.metric} on validation")
        )
        with ExitStack() as processes:
            try:
                while True:
                    late = self.spec.timeout_s is not None and time.monotonic() - began > self.spec.timeout_s
                    while len(self.running) < self.spec.parallel and not late and self._start(processes):
                        pass
                    if not self.running:
                        break
                    self._hear(*self.heard.get())
                    self._give_up_if_hopeless()
            except BaseException:
                processes.close()
                self.study.interrupt()
                raise
        if late and len(self.study.trials) < self.spec.num_trials:
            self.on_event(Message(f"sweep.timeout_s: no trial starts after {self.spec.timeout_s:g} s", level="warning"))
        best = self.study.best
        shown = f"best {self.metric} {best.value:.4f} by trial {best.number}" if best and best.value is not None else ""
        self.on_event(
            StageEnded("sweep", f"{format_count(len(self.study.trials), 'trial')}; {shown or 'none came to its end'}")
        )

    def _start(self, processes: ExitStack) -> bool:
        """Start the next trial; returns whether there was one."""
        asked = self.study.ask()
        if asked is None:
            return False
        number, values = asked
        directory = home() / "jobs" / f"{self.directory.name}-trial-{number:03d}"
        trial = self.running[number] = _Running(values, directory)
        try:
            job = with_overrides(self.job, values)
        except SpecError as error:  # each value is allowed, but not all together
            trial.reason = str(error)
            self._end(number)
            return True
        name = f"{self.job.name[:42].rstrip('-')}-trial-{number}"
        process = TrialProcess(number, job.model_copy(update={"name": name}), directory, self.directory, self.heard)
        processes.callback(process.close)
        trial.process = process
        return True

    def _hear(self, number: int, data: dict[str, Any] | None) -> None:
        trial = self.running[number]
        if data is None:
            self._end(number)
        elif data["event"] == "EpochMetrics":
            self._measured(number, trial, data)
        elif data["event"] == "failed":
            trial.reason = data["reason"]
        elif data["event"] == "trained":
            trial.trained = True
        elif data["event"] == "Message" and data["level"] == "warning":
            self.on_event(Message(f"trial {number}: {data['text']}", level="warning"))

    def _measured(self, number: int, trial: _Running, data: dict[str, Any]) -> None:
        trial.value = float(data["metrics"][self.metric])
        hopeless = self.study.report(number, data["epoch"], trial.value) and data["epoch"] < data["epochs"]
        done = len(self.study.trials)
        text = f"trial {number}: epoch {data['epoch']} of {data['epochs']}, {self.metric} {trial.value:.4f}"
        self.on_event(Progress("sweep", done, self.spec.num_trials, "trials", text))
        if hopeless and trial.process is not None and not trial.pruned:
            trial.pruned = True
            trial.process.end()

    def _end(self, number: int) -> None:
        """Note how a trial ended, in the study and in MLflow."""
        trial = self.running.pop(number)
        ended = trial.ended(number)
        self.study.tell(ended)
        if ended.state == "failed":
            self.on_event(Message(f"trial {number} failed: {ended.reason}", level="warning"))
        tags = {"farandole.sweep": self.directory.name, "farandole.trial": str(number)}
        tag_run(self.job.tracking, trial.directory, {**tags, "farandole.trial_state": ended.state})
        best = self.study.best
        values = {"trial.value": ended.value, "best.value": best.value if best else None}
        self.recorder.log_metrics({name: value for name, value in values.items() if value is not None}, number)
        value = "" if ended.value is None else f" {self.metric} {ended.value:.4f}"
        text = f"trial {number}: {ended.state}{value} ({ended.shown_values})"
        self.on_event(
            Message(text + (f"; best {best.value:.4f} by trial {best.number}" if best and best.value else ""))
        )

    def _give_up_if_hopeless(self) -> None:
        states = [trial.state for trial in self.study.trials]
        if len(states) >= _HOPELESS and set(states) == {"failed"}:
            raise TrainingError(
                f"sweep: the first {len(states)} trials failed, so others would as well: {self.study.trials[-1].reason}"
            )


@dataclass
class _Running:
    """A trial under way."""

    values: dict[str, Any]
    directory: Path
    process: TrialProcess | None = None
    value: float | None = None
    trained: bool = False
    pruned: bool = False
    reason: str | None = None
    began: float = field(default_factory=time.monotonic)

    def ended(self, number: int) -> Trial:
        """What it is in the end."""
        is_number = self.value is not None and math.isfinite(self.value)
        state: State = "complete" if self.trained and is_number else "failed"
        if self.pruned and not self.trained:
            state = "pruned"
        reason = self.reason
        if state == "failed" and reason is None:
            reason = f"the metric was {self.value}" if self.trained else "its process ended"
            reason += f"; see {self.directory}"
        return Trial(
            number=number,
            state=state,
            value=self.value if is_number else None,
            values=self.values,
            job_id=self.directory.name,
            mlflow_run_id=read_run_id(self.directory),
            seconds=round(time.monotonic() - self.began, 1),
            reason=reason if state == "failed" else None,
        )


def _record_results(recorder: Recorder, study: Study, spec: Sweep, metric: str, best: Trial, best_file: Path) -> None:
    """What the parent run keeps: plots, the best job file, and which trial it was."""
    trials = [trial for trial in study.trials if trial.value is not None]
    recorder.log_figure(plots.parallel_coordinates(trials, spec.space, metric, study.direction), "parallel_coordinates")
    importances = study.importances()
    if importances:
        recorder.log_figure(plots.importances(importances, metric), "importances")
    recorder.log_file(_BEST, best_file.read_text(encoding="utf-8"))
    recorder.log_json({"trials": [trial.to_dict() for trial in study.trials]}, "trials.json")
    recorder.set_tags({"farandole.best_trial": str(best.number), "farandole.best_run": best.mlflow_run_id or ""})


def _new_directory(job: Job) -> Path:
    directory = home() / "sweeps" / f"{job.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    directory.mkdir(parents=True)
    return directory


def _newest_directory(job: Job) -> Path:
    found = [path.parent for path in (home() / "sweeps").glob(f"{job.name}-*/job.json") if _name_in(path) == job.name]
    if not found:
        raise SpecError(f"--resume: no sweep of {job.name} has been started here; leave --resume out")
    return max(found, key=lambda path: (path / "job.json").stat().st_mtime_ns)


def _name_in(file: Path) -> str | None:
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["name"])
    except (ValueError, KeyError, TypeError):
        return None  # torn by a kill, so nothing was trained yet


def _keep_job(directory: Path, job: Job) -> None:
    """Note the job; a resumed sweep must look in the same space for the same thing."""
    file = directory / "job.json"
    if file.exists():
        before = parse_job(json.loads(file.read_text(encoding="utf-8")), origin=str(file))
        if _compared(before) != _compared(job):
            raise SpecError(
                f"--resume: {directory.name} swept another job; only sweep.{', sweep.'.join(_MAY_CHANGE)} may change."
                " Leave --resume out to start a new sweep"
            )
    temporary = directory / ".job.json.tmp"
    temporary.write_text(job.model_dump_json(indent=1), encoding="utf-8")
    temporary.replace(file)


def _compared(job: Job) -> dict[str, Any]:
    compared: dict[str, Any] = job.model_dump(mode="json", exclude={"tracking": True, "sweep": set(_MAY_CHANGE)})
    return compared


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One process at a time sweeps in a directory; the lock ends with this process, however it ends."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpecError(f"--resume: {directory.name} is still running; wait for it, or end it first") from None
        yield
    finally:
        os.close(handle)
