"""A small sweep of real trainings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from farandole import api
from farandole.api import sweep
from farandole.spec import Job, load_job
from tests.support.made_data import WriteJob

MakeJob = Callable[..., Job]


def _sweep(space: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"space": space, **fields}


@pytest.mark.slow
def test_two_trials_run_at_the_same_time_as_jobs_of_the_queue(home: Path, write_job: WriteJob) -> None:
    rates = {"train.optimizer.learning_rate": {"choices": [0.02, 0.01]}}
    spec = _sweep(rates, sampler="grid", trials=2, parallel=2)
    result = sweep(load_job(write_job(resources__workers=1, train__epochs=1, sweep=spec)))
    assert [trial.state for trial in result.trials] == ["complete", "complete"]
    assert {trial.values["train.optimizer.learning_rate"] for trial in result.trials} == {0.01, 0.02}
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    first, second = (client.get_run(str(trial.mlflow_run_id)).info for trial in result.trials)
    assert max(first.start_time, second.start_time) < min(first.end_time, second.end_time)
    for trial in result.trials:
        status = api.status(trial.job_id)
        assert (status.state, status.mlflow_run_id) == ("succeeded", trial.mlflow_run_id)
        assert any("epoch 1 of 1: validation roc_auc" in line for line in api.logs(trial.job_id))
