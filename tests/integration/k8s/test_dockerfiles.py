"""Dockerfiles, checked without a build: pinned, in stages, unprivileged. `make images-check` builds them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.k8s_manifests import K8S, OVERLAYS, containers, render, templates
from tests.support.paths import ROOT

IMAGES = K8S / "images"
NAMES = sorted(path.parent.name for path in IMAGES.glob("*/Dockerfile"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@dataclass(frozen=True)
class Instruction:
    """Instruction of a Dockerfile: its keyword, and its arguments on one line."""

    word: str
    rest: str


def _stages(name: str) -> list[list[Instruction]]:
    """Return the instructions of each stage; those before the first stage belong to it."""
    lines = [line for line in (IMAGES / name / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    stages: list[list[Instruction]] = [[]]
    for line in filter(None, joined.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM" and any(each.word == "FROM" for each in stages[-1]):
            stages.append([])
        stages[-1].append(Instruction(word, rest))
    return stages


def _all(name: str, word: str) -> list[str]:
    return [each.rest for stage in _stages(name) for each in stage if each.word == word]


parametrize = pytest.mark.parametrize("name", NAMES)


def test_every_image_of_a_pod_has_a_dockerfile() -> None:
    wanted = {
        container["image"]
        for overlay in OVERLAYS
        for _, template in templates(render(overlay))
        for container in containers(template)
        if container["image"].startswith("farandole/")
    }
    job_images = {"prepare", "train"}
    assert wanted == {f"farandole/{name}:{PROJECT['version']}" for name in NAMES if name not in job_images}
    assert job_images <= set(NAMES)


@parametrize
def test_base_image_is_an_argument_with_a_pinned_default(name: str) -> None:
    first = _stages(name)[0][0]
    assert first.word == "ARG"
    assert re.fullmatch(r"BASE=docker\.io/library/debian:\d+\.\d+-slim", first.rest)
    for rest in _all(name, "FROM"):
        assert rest.split()[0] == "${BASE}", rest


@parametrize
def test_compilers_stay_in_the_build_stage(name: str) -> None:
    stages = _stages(name)
    assert len(stages) == 2
    last = " ".join(each.rest for each in stages[-1] if each.word == "RUN")
    assert not re.search(r"\b(g\+\+|make|python3\.11-dev|python3\.11-venv)\b", last)
    build = " ".join(each.rest for stage in stages[:-1] for each in stage)
    if "setup/horovod_wheel.sh" in build:  # its compiler, and the patch of its sources
        assert {"g++", "make", "patch", "setup/horovod_idle.patch"} <= set(build.split())
    assert "--from=build /usr/local /usr/local" in [each.rest for each in stages[-1] if each.word == "COPY"]


@parametrize
def test_image_runs_as_an_unprivileged_user(name: str) -> None:
    last = _stages(name)[-1]
    assert [each.rest for each in last if each.word == "USER"] == ["1000:1000"]
    after = last[[each.word for each in last].index("USER") :]
    assert {each.word for each in after} <= {"USER", "WORKDIR", "EXPOSE", "CMD"}
    (command,) = [each.rest for each in last if each.word == "CMD"]
    assert command.startswith("["), "use a list: a shell would not forward signals to the program"
    assert not any("sudo" in rest or "setcap" in rest for rest in _all(name, "RUN"))


@parametrize
def test_installed_packages_are_pinned_and_package_lists_removed(name: str) -> None:
    for rest in _all(name, "RUN"):
        if "apt-get install" in rest:
            assert "apt-get update" in rest
            assert "--no-install-recommends" in rest
            assert "rm -rf /var/lib/apt/lists/*" in rest
        for call in re.findall(r"pip install ([^&]*)", rest):
            assert "--constraint requirements.lock" in call or "--no-deps" in call, call
            assert "--no-cache-dir" in call
            assert "--mount=type=secret,id=pip.conf" in rest, "the index belongs to the builder, not to the image"


@parametrize
def test_only_package_managers_download_files(name: str) -> None:
    for stage in _stages(name):
        for each in stage:
            assert each.word != "ADD"
            assert not re.search(r"https?://|\bcurl\b|\bwget\b|\bgit clone\b", each.rest), each.rest


@parametrize
def test_copied_files_exist_and_are_not_ignored(name: str) -> None:
    kept = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
    copied = [shlex.split(rest) for rest in _all(name, "COPY") if not rest.startswith("--from")]
    assert copied
    for *sources, _ in copied:
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(source == each or source.startswith(f"{each}/") for each in kept), f"{source}: .dockerignore"


@parametrize
def test_requirements_are_selected_from_the_project(name: str) -> None:
    """Runs the command of the Dockerfile."""
    (call,) = re.findall(r"requirements\.py ([^>]*)>", " ".join(_all(name, "RUN")))
    done = _requirements(*call.split())
    assert done.returncode == 0, done.stderr
    names = {re.split(r"\W", line)[0] for line in done.stdout.splitlines()}
    unwanted = set(re.findall(r"--without (\S+)", call))
    assert "mlflow" in names
    assert not names & unwanted
    assert {"torch"} <= names or name in ("prepare", "mlflow")


def _requirements(*arguments: str) -> subprocess.CompletedProcess[str]:
    script, project = str(IMAGES / "requirements.py"), str(ROOT / "pyproject.toml")
    command = [sys.executable, script, "--project", project, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [("--without", "spark"), ("--only", "spark"), ("--extra", "nothing")])
def test_unknown_requirement_is_an_error(arguments: tuple[str, str]) -> None:
    done = _requirements(*arguments)
    assert done.returncode == 1
    assert arguments[1] in done.stderr
    assert done.stdout == ""


def test_an_extra_includes_the_extras_that_it_names() -> None:
    done = _requirements("--extra", "serve")
    assert done.returncode == 0, done.stderr
    names = {re.split(r"[^\w-]", line)[0] for line in done.stdout.splitlines()}
    assert {"fastapi", "captum", "torch"} <= names
    assert "farandole" not in names, "pip would look for the project in an index"


def test_packages_of_jupyterlab_are_pinned_and_not_in_the_lock() -> None:
    def versions(path: Path) -> dict[str, str]:
        lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
        pairs = (line.split("==") for line in lines)
        return {re.sub(r"[-_.]+", "-", pinned).lower(): version for pinned, version in pairs}

    locked, additional = versions(ROOT / "requirements.lock"), versions(IMAGES / "notebook" / "jupyterlab.lock")
    assert "jupyterlab" in additional
    assert not set(locked) & set(additional)


def test_images_check_builds_and_checks_every_image() -> None:
    script = (IMAGES / "check.sh").read_text()
    (listed,) = re.findall(r"\|\| names=\(([^)]*)\)", script)
    assert sorted(listed.split()) == NAMES
    for name in NAMES:
        assert re.search(rf"^        {name}\)$", script, re.MULTILINE), f"{name}: has no checks"


def test_unknown_image_is_an_error() -> None:
    done = subprocess.run(["bash", IMAGES / "check.sh", "trainn"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "trainn: no such image; the images are: mlflow/ notebook/" in done.stderr
