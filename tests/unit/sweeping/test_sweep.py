"""The loop of a sweep, with trials that run nowhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from farandole import pipeline
from farandole.errors import SpecError, TrainingError
from farandole.events import EpochMetrics, Event, Message, Progress, StageEnded
from farandole.jobdir.directory import save_spec
from farandole.jobdir.outcome import write_result
from farandole.spec import Job, Sweep
from farandole.sweeping.study import Study
from farandole.sweeping.sweep import SweepLoop, estimate_left_s, require_sweep, run_sweep
from farandole.sweeping.trial_jobs import TrialEnded

MakeJob = Callable[..., Job]
RATE = "train.optimizer.learning_rate"


@dataclass
class ScriptedTrials:
    """Trials that report what a function says, one event at each poll.

    Args:
        home: The folder of their directories.
        script: Job to what its trial reports.
    """

    home: Path
    script: Callable[[Job], list[Event | TrialEnded]]
    jobs: list[Job] = field(default_factory=list)
    most_at_once: int = 0
    running: dict[int, deque[Event | TrialEnded]] = field(default_factory=dict)

    def directory(self, number: int) -> Path:
        return self.home / f"trial-{number:03d}"

    def submit(self, number: int, job: Job) -> None:
        self.jobs.append(job)
        self.running[number] = deque(self.script(job))
        self.most_at_once = max(self.most_at_once, len(self.running))

    def poll(self) -> list[tuple[int, Event | TrialEnded]]:
        reported = []
        for number, events in list(self.running.items()):
            reported.append((number, events.popleft()))
            if isinstance(reported[-1][1], TrialEnded):
                del self.running[number]
        return reported

    def cancel(self, number: int) -> None:
        self.running[number] = deque([TrialEnded("cancelled", "cancelled while it ran")])


class Records:
    """Keeps what would be recorded in MLflow."""

    def __init__(self) -> None:
        self.points: list[tuple[dict[str, float], int]] = []

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.points.append((values, step))


@dataclass
class Swept:
    """A sweep that was run."""

    study: Study
    trials: ScriptedTrials
    events: list[Event]
    records: Records


def _metrics(*values: float) -> list[Event | TrialEnded]:
    epochs: list[Event | TrialEnded] = [
        EpochMetrics(number, len(values), {"roc_auc": value}) for number, value in enumerate(values, start=1)
    ]
    return [*epochs, TrialEnded("succeeded", "reached its end")]


def _sweep(job: Job, folder: Path, script: Callable[[Job], list[Event | TrialEnded]]) -> Swept:
    spec = require_sweep(job)
    study, trials, records = Study(folder, spec, "maximize"), ScriptedTrials(folder, script), Records()
    events: list[Event] = []
    swept = Swept(study, trials, events, records)
    SweepLoop(job, spec, "small-x", "roc_auc", study, trials, records, events.append).run()  # type: ignore[arg-type]
    return swept


def _job(make_job: MakeJob, **fields: Any) -> Job:
    space = {RATE: {"choices": [0.1, 0.01, 0.001, 0.0001]}}
    sweep = Sweep.model_validate({"space": space, "sampler": "grid", "trials": 4, "startup_trials": 2, **fields})
    return make_job().model_copy(update={"sweep": sweep})


def test_value_of_a_trial_is_that_of_the_weights_it_kept(make_job: MakeJob, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"trial-{number:03d}").mkdir()
        write_result(
            tmp_path / f"trial-{number:03d}",
            {"training": {"metrics": {"validation": {"roc_auc": 0.9 - number / 10}}}},
        )
    swept = _sweep(_job(make_job), tmp_path, lambda job: _metrics(0.5))
    assert [trial.value for trial in swept.study.trials] == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert {job.train.baseline for job in swept.trials.jobs} == {"trivial"}


def test_hopeless_trials_are_pruned_and_the_best_complete_one_wins(make_job: MakeJob, tmp_path: Path) -> None:
    rates = {0.1: 0.6, 0.01: 0.9, 0.001: 0.2, 0.0001: 0.95}

    def script(job: Job) -> list[Event | TrialEnded]:
        value = rates[job.train.optimizer.rate]
        return _metrics(value, value, value)

    swept = _sweep(_job(make_job), tmp_path, script)
    assert [(trial.state, trial.value) for trial in swept.study.trials] == [
        ("complete", 0.6),
        ("complete", 0.9),
        ("pruned", 0.2),
        ("complete", 0.95),
    ]
    assert swept.study.best is not None
    assert swept.study.best.number == 3
    assert swept.records.points[-1] == ({"trial.value": 0.95, "best.value": 0.95}, 3)
    assert str(swept.events[-1]) == str(StageEnded("sweep", "4 trials; best roc_auc 0.95 by trial 3"))


def test_best_value_of_zero_is_shown(make_job: MakeJob, tmp_path: Path) -> None:
    swept = _sweep(_job(make_job, trials=1), tmp_path, lambda job: _metrics(0.0))
    assert str(swept.events[-1]).endswith("best roc_auc 0 by trial 0")
    assert str(swept.events[-2]).endswith("; best 0 by trial 0")


def test_large_values_are_shown_without_an_exponent(make_job: MakeJob, tmp_path: Path) -> None:
    swept = _sweep(_job(make_job, trials=1), tmp_path, lambda job: _metrics(25_431.7))
    assert str(swept.events[-1]).endswith("best roc_auc 25,432 by trial 0")
    assert str(swept.events[-2]).endswith("; best 25,432 by trial 0")


def test_no_more_trials_run_at_once_than_asked_for(make_job: MakeJob, tmp_path: Path) -> None:
    swept = _sweep(_job(make_job, parallel=3), tmp_path, lambda job: _metrics(0.5))
    assert swept.trials.most_at_once == 3
    assert len(swept.trials.jobs) == 4
    assert [job.name for job in swept.trials.jobs] == [f"small-trial-{number}" for number in range(4)]
    assert all(job.sweep is None for job in swept.trials.jobs)


def test_failed_trial_is_reported_with_its_reason_and_the_sweep_continues(make_job: MakeJob, tmp_path: Path) -> None:
    def script(job: Job) -> list[Event | TrialEnded]:
        if job.train.optimizer.learning_rate == 0.01:
            return [Message("slow disk", level="warning"), TrialEnded("failed", "worker 0 was killed")]
        return _metrics(0.5)

    swept = _sweep(_job(make_job), tmp_path, script)
    assert [trial.state for trial in swept.study.trials] == ["complete", "failed", "complete", "complete"]
    assert swept.study.trials[1].reason == "worker 0 was killed"
    warnings = [event.text for event in swept.events if isinstance(event, Message) and event.level == "warning"]
    assert warnings == ["trial 1: slow disk", "trial 1 failed: worker 0 was killed"]


def test_trial_whose_metric_is_not_a_number_has_failed(make_job: MakeJob, tmp_path: Path) -> None:
    swept = _sweep(_job(make_job, trials=1), tmp_path, lambda job: _metrics(float("nan")))
    (trial,) = swept.study.trials
    assert (trial.state, trial.value) == ("failed", None)
    assert str(trial.reason).startswith("roc_auc was nan; see ")


def test_trial_whose_metric_is_never_measured_has_failed_with_a_reason(make_job: MakeJob, tmp_path: Path) -> None:
    measured = iter([[{}, {"roc_auc": 0.5}], [{"log_loss": 0.1}, {}]])

    def script(job: Job) -> list[Event | TrialEnded]:
        metrics = next(measured)
        epochs = [EpochMetrics(number, 2, values) for number, values in enumerate(metrics, start=1)]
        return [*epochs, TrialEnded("succeeded", "reached its end")]

    swept = _sweep(_job(make_job, trials=2), tmp_path, script)
    first, second = swept.study.trials
    assert (first.state, first.value) == ("complete", 0.5)
    assert (second.state, second.value) == ("failed", None)
    assert str(second.reason).startswith("the validation rows have no roc_auc, which may need rows of each class; see ")
    assert any("trial 1: epoch 1 of 2, no roc_auc" in str(event) for event in swept.events)


def test_own_metric_of_the_user_is_swept(make_job: MakeJob, tmp_path: Path) -> None:
    spec = require_sweep(_job(make_job, trials=2))
    study, trials = (
        Study(tmp_path, spec, "minimize"),
        ScriptedTrials(
            tmp_path,
            lambda job: [EpochMetrics(1, 1, {"mymet.err": job.train.optimizer.rate}), TrialEnded("succeeded", "")],
        ),
    )
    (tmp_path / "trial-000").mkdir()
    write_result(tmp_path / "trial-000", {"training": {"metrics": {"validation": {"mymet.err": 0.25}}}})
    loop = SweepLoop(make_job(), spec, "small-x", "mymet:err", study, trials, Records(), lambda event: None)  # type: ignore[arg-type]
    loop.run()
    assert [trial.value for trial in study.trials] == [0.25, 0.01]


def test_sweep_whose_first_trials_all_fail_ends(make_job: MakeJob, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the first 3 trials failed, so others would as well: no such layer"):
        _sweep(_job(make_job), tmp_path, lambda job: [TrialEnded("failed", "no such layer")])


def test_values_that_contradict_each_other_fail_without_a_job(make_job: MakeJob, tmp_path: Path) -> None:
    job = _job(make_job, trials=2)
    space = {"train.epochs": {"choices": [1, 2]}, "train.schedule": {"choices": [{"name": "cosine", "warmup": 2}]}}
    sweep = Sweep.model_validate({"space": space, "sampler": "grid", "trials": 2})
    swept = _sweep(job.model_copy(update={"sweep": sweep}), tmp_path, lambda job: _metrics(0.5))
    assert {trial.state for trial in swept.study.trials} == {"failed"}
    assert swept.trials.jobs == []


def test_time_left_is_that_of_all_trials_together(make_job: MakeJob, tmp_path: Path) -> None:
    assert estimate_left_s([10.0, 14.0], [4.0], 3, 1) == 3 * 12.0 + 8.0
    assert estimate_left_s([12.0], [4.0, 6.0], 2, 2) == (2 * 12.0 + 8.0 + 6.0) / 2
    assert estimate_left_s([12.0], [20.0], 0, 4) == 0.0
    swept = _sweep(_job(make_job), tmp_path, lambda job: _metrics(0.5, 0.6))
    progress = [event for event in swept.events if isinstance(event, Progress)]
    assert len(progress) == 8
    assert all(event.left_s is not None and event.total == 4 for event in progress)


def test_no_trial_starts_after_the_time_limit(make_job: MakeJob, tmp_path: Path) -> None:
    swept = _sweep(_job(make_job, timeout_s=1e-9), tmp_path, lambda job: _metrics(0.5))
    assert swept.trials.jobs == []
    assert any("no further trial was started" in str(event) for event in swept.events)


def test_interrupted_trials_are_drawn_again(make_job: MakeJob, tmp_path: Path) -> None:
    def script(job: Job) -> list[Event | TrialEnded]:
        raise KeyboardInterrupt

    job = _job(make_job)
    with pytest.raises(KeyboardInterrupt):
        _sweep(job, tmp_path, script)
    swept = _sweep(job, tmp_path, lambda job: _metrics(0.5))
    assert [trial.number for trial in swept.study.trials] == [1, 2, 3, 4]
    assert {trial.values[RATE] for trial in swept.study.trials} == {0.1, 0.01, 0.001, 0.0001}


# What is refused before anything starts -----------------------------------------------------------------------


def test_job_without_a_sweep_and_sweep_that_never_started_are_reported(farandole_home: Path, make_job: MakeJob) -> None:
    checked = pipeline.check(make_job())
    prepared = pipeline.load_prepared(checked)
    with pytest.raises(SpecError, match="sweep: missing from the job"):
        run_sweep(checked, prepared)
    checked = pipeline.check(_job(make_job))
    with pytest.raises(SpecError, match="--resume: no sweep of small has been started here"):
        run_sweep(checked, prepared, resume=True)
    assert not (farandole_home / "sweeps").exists()


def test_only_the_same_sweep_is_resumed(farandole_home: Path, make_job: MakeJob) -> None:
    directory = farandole_home / "sweeps" / "small-earlier"
    directory.mkdir(parents=True)
    save_spec(directory, _job(make_job))
    checked = pipeline.check(_job(make_job, seed=5))
    with pytest.raises(SpecError, match=r"small-earlier is a sweep of a different job; only sweep\.trials"):
        run_sweep(checked, pipeline.load_prepared(checked), resume=True)
