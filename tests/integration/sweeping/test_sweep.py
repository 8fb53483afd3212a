"""Sweeps of real trainings: what they find, what is recorded, what survives a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from farandole.api import sweep
from farandole.errors import SpecError
from farandole.events import Event
from farandole.spec import Job, load_job
from farandole.sweeping.sweep import SweepResult
from tests.support.made_data import WriteJob

FARANDOLE = str(Path(sys.executable).with_name("farandole"))
MakeJob = Callable[..., Job]


def _sweep(space: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"space": space, **fields}


# One sweep in which everything happens ----------------------------------------------------------------------

GRID = {
    "train.optimizer.learning_rate": {"choices": [0.02, 1e-7]},
    "train.schedule": {"choices": [{"name": "constant"}, {"name": "cosine", "warmup": 0.1}]},
}
"""Four points: two learn, and two do not, which are ended."""


class Finished:
    """A sweep and what was said."""

    def __init__(self, job: Job, home: Path) -> None:
        self.job, self.home = job, home
        self.told: list[Event] = []
        self.swept: SweepResult = sweep(job, self.told.append)
        self.client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")


@pytest.fixture(scope="module")
def finished(module_home: Path, write_module_job: WriteJob) -> Finished:
    spec = _sweep(GRID, sampler="grid", trials=10, startup_trials=2)
    job = load_job(write_module_job(resources__workers=1, sweep=spec))
    return Finished(job, module_home)


pytestmark = pytest.mark.timeout(3000)


@pytest.mark.slow(seconds=70)
def test_a_grid_trains_each_point_and_finds_the_best(finished: Finished) -> None:
    swept = finished.swept
    points = [tuple(json.dumps(value) for value in trial.values.values()) for trial in swept.trials]
    assert len(points) == len(set(points)) == 4
    assert swept.metric == "roc_auc"
    assert swept.direction == "maximize"
    assert swept.best.state == "complete"
    assert swept.best.values["train.optimizer.learning_rate"] == 0.02
    assert swept.best.value == max(trial.value or 0 for trial in swept.trials)
    assert all(trial.seconds > 0 for trial in swept.trials)


@pytest.mark.slow
def test_a_trial_that_is_worse_than_the_median_is_ended_before_its_end(finished: Finished) -> None:
    assert [trial.state for trial in finished.swept.trials] == ["complete", "complete", "pruned", "pruned"]
    for trial in finished.swept.trials:
        history = finished.client.get_metric_history(str(trial.mlflow_run_id), "validation.roc_auc")
        assert max(history, key=lambda point: point.step).value == pytest.approx(trial.value)
        run = finished.client.get_run(str(trial.mlflow_run_id))
        models = run.outputs.model_outputs if run.outputs else []
        assert len(models) == (1 if trial.state == "complete" else 0)


@pytest.mark.slow
def test_trials_are_child_runs_of_one_run_with_their_values_as_params(finished: Finished) -> None:
    parent = finished.client.get_run(str(finished.swept.mlflow_run_id))
    assert parent.info.status == "FINISHED"
    children = finished.client.search_runs(
        [parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    )
    assert {child.info.run_id for child in children} == {trial.mlflow_run_id for trial in finished.swept.trials}
    for trial in finished.swept.trials:
        child = finished.client.get_run(str(trial.mlflow_run_id))
        rate = trial.values["train.optimizer.learning_rate"]
        assert child.data.params["train.optimizer.learning_rate"] == str(rate)
        assert child.data.tags["farandole.trial"] == str(trial.number)
        assert child.data.tags["farandole.trial_state"] == trial.state
        assert child.info.status == ("FINISHED" if trial.state == "complete" else "KILLED")


@pytest.mark.slow
def test_the_parent_keeps_plots_and_the_best_job_file(finished: Finished) -> None:
    run_id = str(finished.swept.mlflow_run_id)
    files = {entry.path for folder in ("", "plots") for entry in finished.client.list_artifacts(run_id, folder)}
    assert files >= {"best.yaml", "trials.json", "plots/parallel_coordinates.png", "plots/importances.png"}
    for plot in ("parallel_coordinates", "importances"):
        image = Path(finished.client.download_artifacts(run_id, f"plots/{plot}.png")).read_bytes()
        assert image.startswith(b"\x89PNG")
        assert len(image) > 5000
    run = finished.client.get_run(run_id)
    assert run.data.metrics["best.value"] == pytest.approx(finished.swept.best.value)
    assert run.data.tags["farandole.best_run"] == finished.swept.best.mlflow_run_id


@pytest.mark.slow
def test_the_best_job_file_runs_as_it_stands_and_gives_what_the_trial_gave(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", str(finished.home))
    best = finished.swept.best_file
    raw = yaml.safe_load(best.read_text())
    assert "sweep" not in raw
    assert raw["name"] == "small"
    done = subprocess.run(
        [FARANDOLE, "run", str(best), "--json"], capture_output=True, text=True, check=False, timeout=800
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["dataset"]["reused"] is True
    assert document["training"]["metrics"]["validation"]["roc_auc"] == finished.swept.best.value
    assert document["model"]["uri"] == "models:/small/1"


@pytest.mark.slow
def test_two_trials_run_at_the_same_time(home: Path, write_job: WriteJob) -> None:
    rates = {"train.optimizer.learning_rate": {"choices": [0.02, 0.01]}}
    spec = _sweep(rates, sampler="grid", trials=2, parallel=2)
    swept = sweep(load_job(write_job(resources__workers=1, train__epochs=1, sweep=spec)))
    assert [trial.state for trial in swept.trials] == ["complete", "complete"]
    assert {trial.values["train.optimizer.learning_rate"] for trial in swept.trials} == {0.01, 0.02}
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    first, second = (client.get_run(str(trial.mlflow_run_id)).info for trial in swept.trials)
    assert max(first.start_time, second.start_time) < min(first.end_time, second.end_time)


# Killed and resumed -----------------------------------------------------------------------------------------


@pytest.mark.slow(seconds=80)
def test_a_killed_sweep_loses_the_trial_under_way_and_goes_on(home: Path, write_job: WriteJob, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    spec = _sweep({"train.optimizer.learning_rate": {"low": 0.001, "high": 0.1, "log": True}}, trials=3, pruner="none")
    job = write_job(
        resources__workers=1,
        train__epochs=1,
        model={"builder": "network:build_slow", "options": {"marks": str(marks), "step_s": 0.05}},
        sweep=spec,
    )
    with (tmp_path / "stderr").open("w") as words:
        process = subprocess.Popen([FARANDOLE, "sweep", str(job)], stdout=words, stderr=words)
    deadline = time.monotonic() + 800
    began = marks / "rank-0-began"
    while not (list(home.glob("jobs/*-trial-001")) and began.exists()):
        assert process.poll() is None, (tmp_path / "stderr").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
        if not list(home.glob("jobs/*-trial-001")):
            began.unlink(missing_ok=True)
    process.kill()
    process.wait()
    _wait_for_none_of(home, 30)
    done = subprocess.run(
        [FARANDOLE, "sweep", str(job), "--resume", "--json"], capture_output=True, text=True, check=False, timeout=800
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [trial["number"] for trial in document["trials"]] == [0, 2, 3]
    assert {trial["state"] for trial in document["trials"]} == {"complete"}
    lost = json.loads(next(home.glob("jobs/*-trial-001/job.json")).read_text())
    again = document["trials"][1]["values"]["train.optimizer.learning_rate"]
    assert lost["train"]["optimizer"]["learning_rate"] == again
    assert len({trial["values"]["train.optimizer.learning_rate"] for trial in document["trials"]}) == 3
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    assert client.get_run(document["mlflow_run_id"]).info.status == "FINISHED"
    assert len(list(home.glob("sweeps/*"))) == 1


def _wait_for_none_of(home: Path, within_s: float) -> None:
    """No process may be left that knows the trials' directories."""
    deadline = time.monotonic() + within_s
    while True:
        left = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(home / "jobs") in line:
                left.append(line)
        if not left:
            return
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


@pytest.mark.slow(seconds=60)
def test_ctrl_c_ends_the_trials_and_a_sweep_whose_trials_all_fail_says_why(
    home: Path, write_job: WriteJob, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    spec = _sweep({"model.options.step_s": {"choices": [0.5, 0.6]}}, trials=2)
    job = write_job(
        resources__workers=1,
        model={"builder": "network:build_slow", "options": {"marks": str(marks), "step_s": 0.5}},
        sweep=spec,
    )
    with (tmp_path / "stderr").open("w") as words:
        process = subprocess.Popen([FARANDOLE, "sweep", str(job)], stdout=words, stderr=words, start_new_session=True)
    deadline = time.monotonic() + 800
    while not (marks / "rank-0-began").exists():
        assert process.poll() is None, (tmp_path / "stderr").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    _wait_for_none_of(home, 30)
    last = (tmp_path / "stderr").read_text().splitlines()[-1]
    assert last == "farandole: interrupted; everything that was started has ended"

    hopeless = write_job(
        resources__workers=1,
        model={"builder": "network:build_raising", "options": {}},
        sweep=_sweep({"train.seed": {"choices": [1]}}, trials=1),
        name="hopeless",
    )
    done = subprocess.run([FARANDOLE, "sweep", str(hopeless)], capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 1
    assert "sweep: none of 1 trial came to its end; the last one: model.builder: network:build_raising" in done.stderr


# What is refused before anything starts ----------------------------------------------------------------------


def test_a_job_without_a_sweep_and_a_sweep_that_never_began_are_told(home: Path, make_job: MakeJob) -> None:
    with pytest.raises(SpecError, match="sweep: there is none in the job"):
        sweep(make_job())
    job = make_job(sweep=_sweep({"train.epochs": {"low": 1, "high": 2}}))
    with pytest.raises(SpecError, match="--resume: no sweep of small has been started here"):
        sweep(job, resume=True)
    assert not (home / "sweeps").exists()


def test_only_the_same_sweep_is_resumed(home: Path, make_job: MakeJob) -> None:
    before = make_job(sweep=_sweep({"train.epochs": {"low": 1, "high": 2}}))
    directory = home / "sweeps" / "small-earlier"
    directory.mkdir(parents=True)
    (directory / "job.json").write_text(before.model_dump_json())
    changed = make_job(sweep=_sweep({"train.epochs": {"low": 1, "high": 3}}))
    with pytest.raises(SpecError, match=r"small-earlier swept another job; only sweep\.trials, sweep\.timeout_s, "):
        sweep(changed, resume=True)


def test_the_function_of_the_package_is_not_hidden_by_a_module() -> None:
    import farandole

    assert farandole.sweep.__module__ == "farandole.api"
