"""A job in the foreground, as other commands see it: while it trains, right after a kill, and when it continues."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.support.command import FARANDOLE, document, farandole
from tests.support.made_data import WriteJob
from tests.support.queued import TRAINING_S, wait_until


@pytest.mark.slow(seconds=90)
@pytest.mark.usefixtures("ended")
def test_job_in_the_foreground_is_listed_followed_killed_and_continued(
    home: Path, write_job: WriteJob, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    model = {"builder": "network:build_slow", "options": {"marks": str(marks), "step_s": 0.1}}
    (marks / "hold").write_text("30")  # of 60: the commands below take longer than the training on a busy machine
    job = write_job(
        model=model,
        train__epochs=4,
        train__baseline="trivial",
        resources__workers=1,
        train__checkpoint={"every_steps": 2},
    )
    command = [FARANDOLE, "train", str(job), "--set", "train.seed=3"]
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as training,
        ExitStack() as stack,
    ):
        stack.callback(training.kill)  # after a failure as well: it would be held for ever
        wait_until(lambda: any(each["checkpoint"] for each in document("jobs")))
        (status,) = document("jobs")
        assert (status["backend"], status["state"], status["stage"]) == ("foreground", "running", "train")
        assert status["progress"]["total"] > status["progress"]["done"] > 0
        assert status["details"]["process"] == training.pid
        shown = farandole("status", status["id"]).stdout
        assert "time left" in shown
        assert "after step" in shown
        training.kill()
        training.wait()
    killed = document("status", status["id"])
    assert (killed["state"], killed["reason"]) == ("failed", f"its process {training.pid} was killed")
    next_step = killed["details"]["next"]
    resumed = f"train {job} --set train.seed=3 --resume-id {status['id']}"
    assert f"{resumed}` continues it from its checkpoint after step" in next_step
    assert farandole("logs", status["id"]).stdout.splitlines()[-1].endswith("was killed")
    # at once, while its MLflow run may still be closed, and from another directory
    command = [FARANDOLE, *resumed.split()]
    with (
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as again,
        ExitStack() as stack,
    ):
        stack.callback(again.kill)
        wait_until(lambda: again.poll() is not None or document("status", status["id"])["attempt"] == 2)
        assert again.poll() is None, again.communicate()[1]
        assert document("status", status["id"])["details"]["starts"] == 2
        again.kill()
        again.communicate()
    (marks / "hold").rename(marks / "released")
    retried = document("retry", status["id"])
    assert (retried["id"], retried["backend"]) == (status["id"], "local")
    wait_until(lambda: document("status", status["id"])["state"] not in ("queued", "running"), TRAINING_S)
    ended = document("status", status["id"])
    assert ended["state"] == "succeeded", ended["reason"]
    assert ended["attempt"] >= 3
    assert [each["id"] for each in document("jobs")] == [status["id"]]
    run = MlflowClient(f"sqlite:///{home / 'mlflow.db'}").get_run(ended["mlflow_run_id"])
    assert run.info.status == "FINISHED"
