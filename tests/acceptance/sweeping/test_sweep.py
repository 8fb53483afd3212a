"""Sweeps of real trainings: what they find, what is recorded, what survives a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from farandole import api
from farandole.api import sweep
from farandole.events import Event
from farandole.spec import Job, load_job
from farandole.sweeping.sweep import SweepResult
from tests.support.command import FARANDOLE
from tests.support.made_data import WriteJob

MakeJob = Callable[..., Job]


def _sweep(space: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"space": space, **fields}


# One sweep in which everything happens ----------------------------------------------------------------------

GRID = {
    "train.optimizer.learning_rate": {"choices": [0.02, 1e-7]},
    "train.schedule": {"choices": [{"name": "constant"}, {"name": "cosine", "warmup": 0.1}]},
}
"""Four points: two learn; two do not, and are ended early."""


class Finished:
    """A sweep and its events."""

    def __init__(self, job: Job, home: Path) -> None:
        self.job, self.home = job, home
        self.events: list[Event] = []
        self.result: SweepResult = sweep(job, self.events.append)
        self.client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")


@pytest.fixture(scope="module")
def finished(module_home: Path, write_module_job: WriteJob) -> Finished:
    spec = _sweep(GRID, sampler="grid", trials=10, startup_trials=2)
    job = load_job(write_module_job(resources__workers=1, sweep=spec))
    return Finished(job, module_home)


pytestmark = pytest.mark.timeout(3000)


@pytest.mark.slow(seconds=70)
def test_grid_trains_each_point_and_finds_the_best(finished: Finished) -> None:
    result = finished.result
    points = [tuple(json.dumps(value) for value in trial.values.values()) for trial in result.trials]
    assert len(points) == len(set(points)) == 4
    assert result.metric == "roc_auc"
    assert result.direction == "maximize"
    assert result.best.state == "complete"
    assert result.best.values["train.optimizer.learning_rate"] == 0.02
    assert result.best.value == max(trial.value or 0 for trial in result.trials)
    assert all(trial.seconds > 0 for trial in result.trials)


@pytest.mark.slow
def test_trial_below_the_median_is_ended_early(finished: Finished) -> None:
    assert [trial.state for trial in finished.result.trials] == ["complete", "complete", "pruned", "pruned"]
    for trial in finished.result.trials:
        history = finished.client.get_metric_history(str(trial.mlflow_run_id), "validation.roc_auc")
        last = sorted(history, key=lambda point: (point.step, point.timestamp))[-1]  # that of the kept weights
        assert last.value == pytest.approx(trial.value)
        run = finished.client.get_run(str(trial.mlflow_run_id))
        models = run.outputs.model_outputs if run.outputs else []
        assert len(models) == (1 if trial.state == "complete" else 0)


@pytest.mark.slow
def test_trials_are_child_runs_with_their_values_as_params(finished: Finished) -> None:
    parent = finished.client.get_run(str(finished.result.mlflow_run_id))
    assert parent.info.status == "FINISHED"
    children = finished.client.search_runs(
        [parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    )
    assert {child.info.run_id for child in children} == {trial.mlflow_run_id for trial in finished.result.trials}
    for trial in finished.result.trials:
        child = finished.client.get_run(str(trial.mlflow_run_id))
        rate = trial.values["train.optimizer.learning_rate"]
        assert child.data.params["train.optimizer.learning_rate"] == str(rate)
        assert child.data.tags["farandole.trial"] == str(trial.number)
        assert child.data.tags["farandole.trial_state"] == trial.state
        assert child.info.status == ("FINISHED" if trial.state == "complete" else "KILLED")


@pytest.mark.slow
def test_each_trial_is_a_job_with_a_status_and_a_log(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", str(finished.home))
    for trial in finished.result.trials:
        status = api.status(trial.job_id)
        assert status.backend == "local"
        assert status.state == ("succeeded" if trial.state == "complete" else "cancelled")
        assert status.mlflow_run_id == trial.mlflow_run_id
        assert any("epoch 1 of 2: validation roc_auc" in line for line in api.logs(trial.job_id))
    assert [job.id for job in api.jobs(backend="local")] == [trial.job_id for trial in finished.result.trials][::-1]
    assert not list(finished.home.glob("jobs.*.waking"))


@pytest.mark.slow
def test_parent_run_has_plots_and_the_best_job_file(finished: Finished) -> None:
    run_id = str(finished.result.mlflow_run_id)
    files = {entry.path for folder in ("", "plots") for entry in finished.client.list_artifacts(run_id, folder)}
    assert files >= {"best.yaml", "trials.json", "plots/parallel_coordinates.png", "plots/importances.png"}
    for plot in ("parallel_coordinates", "importances"):
        image = Path(finished.client.download_artifacts(run_id, f"plots/{plot}.png")).read_bytes()
        assert image.startswith(b"\x89PNG")
        assert len(image) > 5000
    run = finished.client.get_run(run_id)
    assert run.data.metrics["best.value"] == pytest.approx(finished.result.best.value)
    assert run.data.tags["farandole.best_run"] == finished.result.best.mlflow_run_id


@pytest.mark.slow
def test_best_job_file_runs_unchanged_and_reproduces_the_trial(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", str(finished.home))
    best = finished.result.best_file
    raw = yaml.safe_load(best.read_text())
    assert "sweep" not in raw
    assert raw["name"] == "small"
    done = subprocess.run(
        [FARANDOLE, "run", str(best), "--json"], capture_output=True, text=True, check=False, timeout=800
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["dataset"]["reused"] is True
    assert document["training"]["metrics"]["validation"]["roc_auc"] == finished.result.best.value
    assert document["model"]["uri"] == "models:/small/1"


# Killed and resumed -----------------------------------------------------------------------------------------


@pytest.mark.slow(seconds=80)
def test_killed_sweep_resumes_and_repeats_only_the_running_trial(
    home: Path, write_job: WriteJob, tmp_path: Path
) -> None:
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
    """Wait until no process is left that knows the directory of a job."""
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
def test_ctrl_c_ends_the_trials(home: Path, write_job: WriteJob, tmp_path: Path) -> None:
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


@pytest.mark.slow(seconds=20)
def test_sweep_whose_trials_all_fail_reports_the_reason(home: Path, write_job: WriteJob) -> None:
    hopeless = write_job(
        resources__workers=1,
        model={"builder": "network:build_raising", "options": {}},
        sweep=_sweep({"train.seed": {"choices": [1]}}, trials=1),
        name="hopeless",
    )
    done = subprocess.run([FARANDOLE, "sweep", str(hopeless)], capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 1
    assert "sweep: none of 1 trial reached its end; the last one: model.builder: network:build_raising" in done.stderr
