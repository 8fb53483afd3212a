"""Every command and every Python example of the documents, run as it stands."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest

from tests.support.documents import blocks, commands, documents
from tests.support.paths import ROOT
from tests.support.served import RunningService

README = (ROOT / "README.md").read_text(encoding="utf-8")
_UI = "farandole ui"
_SERVE = "farandole serve"
_ADDRESS = "http://127.0.0.1:8000"
"""The usual address of the service, in whose place the test has a port that the kernel chooses."""
_ID = re.compile(r"flights-\d{8}-\d{6}-[0-9a-f]{4}")
_ORDER = (
    "docs/first_job.md",
    "README.md",
    "docs/data.md",
    "docs/training.md",
    "docs/submitted_jobs.md",
    "docs/compression.md",
    "docs/models.md",
    "docs/bundle.md",
    "docs/explaining.md",
    "docs/scoring.md",
    "docs/serving.md",
    "docs/security.md",
)
"""Documents with commands, in an order in which they build on each other."""


def _variables(home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # FARANDOLE_HOME is left out, so that `~/.farandole` is where the documents say it is.
    prefixes = ("FARANDOLE_", "MLFLOW_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return {**inherited, "HOME": str(home), "PATH": path, "COLUMNS": "80"}


@pytest.fixture(scope="module")
def user_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home directory for all documents: their commands build on each other."""
    return tmp_path_factory.mktemp("user")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that looks like the checkout: commands write files into the folder where they run."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in ROOT.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


@contextmanager
def _running(command: str, home: Path, folder: Path) -> Iterator[None]:
    process = subprocess.Popen(command.split(), cwd=folder, env=_variables(home), stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def _serving(command: str, home: Path, folder: Path) -> Iterator[str]:
    """Run a service, which must end in peace; yield its address."""
    arguments = [*shlex.split(command), "--port", "0"]
    process = subprocess.Popen(arguments, cwd=folder, env=_variables(home), stderr=subprocess.PIPE)
    try:
        service = RunningService(process)
        yield service.url
        assert service.end() == 0
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=120)


def _names(command: str) -> list[str]:
    """Return the names under which the output of a command is kept: that of `farandole`, or the path that is asked."""
    words = command.split()
    if words[0] == "curl":
        return [urlsplit(words[2]).path]
    return [words[1], " ".join(words[1:3])]


def _fetch(url: str, within_s: float) -> bytes:
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


def test_no_other_document_has_commands() -> None:
    names = [path.relative_to(ROOT).as_posix() for path in documents()]
    assert {name for name in names if commands(name)} == set(_ORDER)


def _run(command: str, home: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=_variables(home), capture_output=True, text=True, check=False
    )


def _check_service(output: dict[str, str], folder: Path) -> None:
    """Check that the service predicts what `farandole predict` has written for the same rows of the source."""
    assert "predictions for 27,004 rows" in output["predict"]
    written = pq.read_table(folder / "predictions.parquet").slice(0, 2).drop_columns("flight").to_pylist()
    assert json.loads(output["/v2/health/ready"]) == {"ready": True}
    assert json.loads(output["/predict"])["predictions"] == written
    explanations = json.loads(output["/explain"])["explanations"]
    assert [found["unit"] for found in explanations] == ["log-odds"] * 2
    assert "carrier" in explanations[0]["columns"]


@pytest.mark.slow(seconds=280)
@pytest.mark.timeout(1800)
def test_every_command_of_the_documents_works(user_home: Path, checkout: Path) -> None:
    output: dict[str, str] = {}
    with ExitStack() as running:
        address = ""
        for command in [command for name in _ORDER for command in commands(name)]:
            if command == _UI:
                continue
            if command.startswith(_SERVE):
                running.close()
                address = running.enter_context(_serving(command, user_home, checkout))
                continue
            if "submit" in output:  # the document shows the id of some job
                command = _ID.sub(output["submit"].strip(), command)
            done = _run(command.replace(_ADDRESS, address), user_home, checkout)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            output |= dict.fromkeys(_names(command), done.stdout)
    assert "seats: regression" in output["init"]
    trained = json.loads(output["train"])
    assert trained["training"]["workers"] == 1
    assert trained["dataset"]["reused"] is True
    assert "models:/flights/1" in output["run"]
    assert "(reused)" in output["prepare"]
    assert "cancelled" in output["cancel"]
    assert output["retry"] == output["submit"]
    assert "models:/flights/2" in output["logs"].splitlines()[-1]
    assert "succeeded" in output["status"]
    assert "source: flights" in output["models trace"]
    assert "loss of roc_auc" in output["explain"]
    _check_service(output, checkout)
    with _running(_UI, user_home, checkout):
        assert b"<title>MLflow" in _fetch("http://127.0.0.1:5000/", within_s=180)


@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "expected"), [("README.md", "roc_auc"), ("docs/python.md", "probability"), ("docs/models.md", "champion")]
)
def test_the_python_of_a_document_works(user_home: Path, name: str, expected: str) -> None:
    code = "\n".join(blocks(name, "python"))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=_variables(user_home), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_the_make_targets_of_the_readme_do_what_it_says() -> None:
    for target, expected in (
        ("demo", "farandole run jobs/flights/job.yaml"),
        ("test", "python -m pytest"),
        ("notebook", "jupyter lab"),
    ):
        assert f"make {target}" in README
        shown = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert "setup/environment.sh" in shown
        assert expected in shown
