"""README.md says nothing that does not work: its commands, its Python and its job file are run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farandole.spec import parse_job
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
_UI = "farandole ui"
_ID = re.compile(r"flights-\d{8}-\d{6}-[0-9a-f]{4}")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def _commands() -> list[str]:
    return [line.removeprefix("$ ") for block in _blocks("console") for line in block.splitlines() if line[:2] == "$ "]


def _variables(home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # FARANDOLE_HOME is left out, so that `~/.farandole` is where the README says it is.
    ours = ("FARANDOLE_", "MLFLOW_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**inherited, "HOME": str(home), "PATH": path, "COLUMNS": "100"}


@pytest.fixture(scope="module")
def readme_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home directory for the whole README: its commands build on each other."""
    return tmp_path_factory.mktemp("readme")


@contextmanager
def _running(command: str, home: Path) -> Iterator[None]:
    process = subprocess.Popen(command.split(), cwd=ROOT, env=_variables(home), stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(url: str, within_s: float) -> bytes:
    deadline = time.monotonic() + within_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                body: bytes = answer.read()
                return body
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


@pytest.mark.slow(seconds=200)
@pytest.mark.timeout(900)
def test_every_command_of_the_readme_works(readme_home: Path) -> None:
    commands = _commands()
    assert [command.split()[1] for command in commands] == [
        "plan",
        "run",
        "prepare",
        "train",
        "data",
        "data",
        "data",
        "bench",
        "doctor",
        "sync",
        "schema",
        "ui",
        "submit",
        "jobs",
        "cancel",
        "retry",
        "logs",
        "status",
    ]
    said: dict[str, str] = {}
    for command in commands:
        if command == _UI:
            continue
        if "submit" in said:  # the README shows the id of some job
            command = _ID.sub(said["submit"].strip(), command)
        done = subprocess.run(
            ["bash", "-c", command], cwd=ROOT, env=_variables(readme_home), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        said[command.split()[1]] = done.stdout
    trained = json.loads(said["train"])
    assert trained["training"]["workers"] == 1
    assert trained["dataset"]["reused"] is True
    assert "models:/flights/1" in said["run"]
    assert "(reused)" in said["prepare"]
    assert "cancelled" in said["cancel"]
    assert said["retry"] == said["submit"]
    assert said["logs"].splitlines()[-1].endswith("succeeded: trained models:/flights/2")
    assert "succeeded" in said["status"]
    with _running(_UI, readme_home):
        assert b"<title>MLflow" in _answers("http://127.0.0.1:5000/", within_s=60)


@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(600)
def test_the_python_of_the_readme_works(readme_home: Path) -> None:
    # The others are whole scripts: test_loader_alone.py runs them.
    code = "\n".join(block for block in _blocks("python") if not block.startswith("# "))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=_variables(readme_home), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "roc_auc" in done.stdout
    assert "probability" in done.stdout


def test_the_make_targets_of_the_readme_do_what_it_says() -> None:
    for target, expected in (("demo", "farandole run jobs/flights/job.yaml"), ("test", "python -m pytest")):
        assert f"make {target}" in README
        shown = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert "setup/environment.sh" in shown
        assert expected in shown


def test_the_job_file_of_the_readme_is_valid(tmp_path: Path) -> None:
    import yaml

    hosts, kubernetes, whole, training, sweep, lenient, breaking, privacy = map(yaml.safe_load, _blocks("yaml"))
    job = parse_job(whole, folder=tmp_path)
    assert job.name == "taxi"
    assert job.resources.workers == 2
    sources = {"trips": {**whole["data"]["sources"]["trips"], **lenient["trips"]}}
    assert parse_job({**whole, "data": {**whole["data"], "sources": sources}}, folder=tmp_path)
    resources = parse_job({**whole, **breaking}, folder=tmp_path).resources
    assert (resources.workers, resources.min_workers, resources.max_restarts) == (8, 4, 10)
    for cluster in (hosts, kubernetes):
        there = {**whole, **cluster, "data": {**whole["data"], **cluster.get("data", {})}}
        assert parse_job(there, folder=tmp_path).backend.use == cluster["backend"]["use"]
    trained = parse_job({**whole, **training}, folder=tmp_path).train
    assert (trained.precision, trained.schedule.name, trained.accumulate_steps) == ("bf16", "cosine", 2)
    swept = parse_job({**whole, **sweep}, folder=tmp_path).sweep
    assert swept is not None
    assert swept.num_trials == 30
    people = {
        **whole["data"],
        **privacy["data"],
        "features": {"age": {"kind": "numeric"}, "city": {"kind": "categorical"}},
    }
    assert len(parse_job({**whole, "data": people}, folder=tmp_path).data.privacy.columns) == 7


def test_the_words_of_the_readme_about_python_are_those_of_the_package() -> None:
    import farandole

    for name in farandole.__all__:
        assert getattr(farandole, name) is not None
