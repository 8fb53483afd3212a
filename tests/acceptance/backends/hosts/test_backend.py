"""Jobs on three real hosts, which share only a directory for data and checkpoints."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from benchmarks.queue.scratch_queue import processes_of
from farandole.backends.hosts.backend import HostsBackend
from farandole.errors import SpecError
from farandole.launch import train
from farandole.spec import Job
from farandole.training.checkpoint import read_checkpoint
from tests.support.made_data import BATCH_ROWS, ROWS, Made, home, made, make_job, write_job
from tests.support.mlflow_server import MlflowServer
from tests.support.netns import Network, network

__all__ = ["home", "made", "make_job", "network", "write_job"]

MakeJob = Callable[..., Job]
STEPS = ROWS["train"] // BATCH_ROWS
EPOCHS = 5
SECRET = "confidential-3f81"
WAIT_S = 400
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def server(network: Network) -> Iterator[MlflowServer]:
    """Start an MLflow server that the hosts reach."""
    made = MlflowServer(network.directory / "mlflow", network.address)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def marks(network: Network) -> Path:
    place = network.shared / "marks"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    return place


@pytest.fixture
def hosts_job(network: Network, server: MlflowServer, made: Callable[..., Made], make_job: MakeJob, marks: Path) -> Job:
    output = network.shared / "dataset"
    if not output.exists():
        shutil.copytree(made().path, output)
    return make_job(
        name="hosted",
        data={**made().data, "output": str(output)},
        model={"builder": "network:build_recording_attempts", "options": {"marks": str(marks), "step_s": 0.2}},
        train__epochs=EPOCHS,
        train__tail="drop",
        train__checkpoint={"directory": str(network.shared / "checkpoints"), "every_steps": 4},
        resources={
            "workers": 3,
            "min_workers": 2,
            "cpus": 1,
            "hosts": ["node1", "node2", "node3"],
            "max_restarts": 3,
            "heartbeat_timeout_s": 10,
            "regrow_s": 3,
            "meet_timeout_s": 300,
        },
        tracking={"uri": server.uri, "system_metrics": True},
        backend={"use": "hosts", "hosts": {**network.ssh, "connect_timeout_s": 3}},
    )


def _wait(happened: Callable[[], Any], backend: HostsBackend | None = None) -> None:
    """Wait for something that happens while the backend's only job runs."""
    deadline = time.monotonic() + WAIT_S
    while not happened():
        if backend is not None and backend.list()[0].ended and not happened():
            pytest.fail(f"the job ended first\n{_log(backend)}")
        if time.monotonic() > deadline:
            pytest.fail("it did not happen in time" + (f"\n{_log(backend)}" if backend else ""))
        time.sleep(0.5)


def _log(backend: HostsBackend) -> str:
    status = backend.list()[0]
    return "\n".join([str(status), *backend.logs(status.id)])


def _events(directory: Path, name: str) -> list[dict[str, Any]]:
    lines = (directory / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == name]


def _batches(marks: Path, directory: Path) -> list[list[str]]:
    """Return the rows of each global batch that counts: those of an attempt up to where the next one resumed."""
    attempts = dict.fromkeys(sorted(_parts(marks), key=lambda name: _parts(marks)[name]))
    begins = [event["step"] for event in _events(directory, "first_step")]
    assert len(begins) == len(attempts)
    counted: list[list[str]] = []
    for begin, name in zip(begins, attempts, strict=True):
        del counted[begin - 1 :]
        assert len(counted) == begin - 1
        ranks = [(marks / f"{name}-{rank}").read_text().splitlines() for rank in range(int(name.rpartition("-")[2]))]
        steps = min(map(len, ranks))  # one rank may have begun a step that the others never began
        counted += [[row for lines in ranks for row in lines[step].split()] for step in range(steps)]
    return counted


def _parts(marks: Path) -> dict[str, float]:
    """Return the attempts, as `PORT-SIZE`, with the time of their start."""
    files = [path for path in marks.iterdir() if path.name.count("-") == 2 and "secret" not in path.name]
    return {
        path.name.rpartition("-")[0]: (marks / f"{path.name.partition('-')[0]}-secret-0").stat().st_mtime
        for path in files
    }


def _command_lines() -> str:
    found = []
    for process in psutil.process_iter():
        try:
            found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return "\n".join(found)


@pytest.mark.slow(seconds=200)
def test_training_survives_a_host_that_is_cut_off_and_comes_back(
    network: Network, home: Path, hosts_job: Job, marks: Path, monkeypatch: pytest.MonkeyPatch, make_job: MakeJob
) -> None:
    monkeypatch.setenv("FARANDOLE_TEST_SECRET", SECRET)
    backend = HostsBackend()
    submitted = backend.submit(hosts_job)
    directory = home / "jobs" / submitted.id
    (marks / "slow").touch()
    try:
        _wait(lambda: backend.status(submitted.id).step >= 10, backend)
        assert SECRET not in _command_lines()
        assert all(host.processes("farandole.training.worker") for host in network.hosts.values())
        assert {name: len(host.processes("farandole.training.worker")) for name, host in network.hosts.items()} == {
            "node1": 1,
            "node2": 1,
            "node3": 1,
        }
        cut_s = time.time()
        network.cut("node3")
        _wait(lambda: len(_events(directory, "first_step")) == 2, backend)
        healed_s = time.time() - cut_s
        assert not network.hosts["node3"].processes("farandole.training.worker"), "an orphan continues to train"
        network.plug_in("node3")
        _wait(lambda: len(_events(directory, "first_step")) == 3, backend)
        (marks / "slow").unlink()
        _wait(lambda: backend.status(submitted.id).ended)
    finally:
        network.plug_in("node3")
        if not backend.status(submitted.id).ended:
            backend.cancel(submitted.id)
    status = backend.status(submitted.id)
    print(f"\nhealed on two hosts {healed_s:.1f} s after the cut")
    assert status.state == "succeeded", (directory / "job.log").read_text()
    assert [event["workers"] for event in _events(directory, "started")] == [3, 2, 3]
    (failed,) = _events(directory, "failed")
    assert failed["kind"] == "lost"
    assert failed["message"].startswith("train: host node3 is lost, and worker 2 with it: it was silent for 9.0 s")
    (restarted,) = _events(directory, "restarted")
    assert restarted["kind"] == "lost"
    _compare_with_undisturbed(network, hosts_job, submitted.id, directory, marks, make_job)
    _look_for_secrets(network, directory, marks)


def _compare_with_undisturbed(
    network: Network, job: Job, job_id: str, directory: Path, marks: Path, make_job: MakeJob
) -> None:
    disturbed = _batches(marks, directory)
    assert len(disturbed) == EPOCHS * STEPS
    weights = read_checkpoint(network.shared / "checkpoints" / job_id)["model"]
    other = network.shared / "undisturbed"
    other.mkdir()
    model = {"builder": "network:build_recording_attempts", "options": {"marks": str(other)}}
    here = job.model_copy(
        update={
            "model": job.network.model_copy(update=model),
            "resources": job.resources.model_copy(update={"hosts": None, "workers": 2}),
        }
    )
    trained = train(here)
    assert _batches(other, trained.directory) == disturbed
    expected = read_checkpoint(network.shared / "checkpoints" / trained.id)["model"]
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4)
    result = json.loads((directory / "result.json").read_text())
    for name, value in trained.training.metrics["test"].items():
        assert result["training"]["metrics"]["test"][name] == pytest.approx(value, abs=5e-3)


def _look_for_secrets(network: Network, directory: Path, marks: Path) -> None:
    """Check that the workers had the secret, and that no file contains it."""
    digests = {path.read_text() for path in marks.glob("*-secret-*")}
    assert digests == {hashlib.sha256(SECRET.encode()).hexdigest()}
    places = [directory, network.shared, *(host.directory for host in network.hosts.values())]
    for path in (path for place in places for path in place.rglob("*")):
        if path.is_file() and not path.is_relative_to(network.directory / "mlflow"):
            assert SECRET.encode() not in path.read_bytes(), path


@pytest.mark.slow(seconds=90)
def test_killed_job_ends_on_all_hosts_and_can_be_retried(
    network: Network, home: Path, hosts_job: Job, marks: Path
) -> None:
    train_spec = hosts_job.train.model_copy(update={"epochs": 2})
    backend = HostsBackend()
    job_id = backend.submit(hosts_job.model_copy(update={"train": train_spec})).id
    _wait(lambda: backend.status(job_id).step >= 6, backend)
    run_id = backend.status(job_id).mlflow_run_id
    assert run_id is not None
    for process in processes_of(home):  # runner, job, supervisor, launcher, SSH
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _wait(lambda: not any(host.processes("farandole.training.worker") for host in network.hosts.values()))
    _wait(lambda: not any(host.processes("farandole.launch.agent") for host in network.hosts.values()))
    assert backend.status(job_id).state == "failed"
    backend.retry(job_id)
    _wait(lambda: backend.status(job_id).ended)
    status = backend.status(job_id)
    assert status.state == "succeeded", (home / "jobs" / job_id / "job.log").read_text()
    assert (status.attempt, status.mlflow_run_id) == (2, run_id)
    begins = [event["step"] for event in _events(home / "jobs" / job_id, "first_step")]
    assert begins[1] > 4, "it resumed from a checkpoint"


@pytest.mark.slow(seconds=40)
def test_cancelled_job_saves_its_state(network: Network, home: Path, hosts_job: Job, marks: Path) -> None:
    backend = HostsBackend()
    job_id = backend.submit(hosts_job).id
    _wait(lambda: backend.status(job_id).step >= 3, backend)
    backend.cancel(job_id)
    status = backend.status(job_id)
    assert status.state == "cancelled"
    status_file = json.loads((home / "jobs" / job_id / "status.json").read_text())
    saved = re.search(r"after step (\d+) was saved", status_file["reason"])
    assert saved is not None, status_file
    assert any(path.name == f"step-{int(saved[1]):09d}" for path in (network.shared / "checkpoints" / job_id).iterdir())
    assert not any(host.processes("farandole.") for host in network.hosts.values())


def test_job_whose_hosts_are_not_ready_is_refused(network: Network, home: Path, hosts_job: Job) -> None:
    resources = hosts_job.resources.model_copy(update={"min_workers": 3})
    job = hosts_job.model_copy(update={"resources": resources})
    network.cut("node2")
    try:
        with pytest.raises(
            SpecError, match=r"^node2: ssh: connect to host .*; check that it runs, that its SSH server"
        ):
            HostsBackend().submit(job)
    finally:
        network.plug_in("node2")
    assert not (home / "jobs").exists()


def test_changes_after_the_submission_do_not_affect_the_job(
    network: Network, home: Path, hosts_job: Job, marks: Path
) -> None:
    assert hosts_job.folder is not None
    backend = HostsBackend(command=["true"])
    directory = home / "jobs" / backend.submit(hosts_job).id
    folder = Path(json.loads((directory / "job.json").read_text())["folder"])
    Path(hosts_job.folder, "network.py").write_text("raise RuntimeError\n")
    assert "build_recording_attempts" in (folder / "network.py").read_text()
    _wait(lambda: backend.list()[0].ended)
