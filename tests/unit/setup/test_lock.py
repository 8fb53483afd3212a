"""Decisions of `make lock`: which versions stay, which are resolved anew, and what the file looks like."""

from __future__ import annotations

import runpy
import tomllib
from typing import Any

import pytest

from tests.support.paths import ROOT

LOCK: dict[str, Any] = runpy.run_path(str(ROOT / "setup" / "lock.py"))
PROJECT = {
    "name": "farandole",
    "dependencies": ["numpy>=2.4,<2.5", "PyYAML>=6"],
    "optional-dependencies": {
        "serve": ["farandole[explain]", "fastapi"],
        "explain": ["captum>=0.9,<0.10"],
        "dev": ["farandole[serve,explain]", "mlflow[auth]", "numpy>=2.4,<2.5"],
    },
}
LOCKED = {"numpy": "2.4.3", "PyYAML": "6.0.3", "smart-open": "9.0.2", "captum": "0.9.0"}


def test_extras_of_the_project_are_replaced_by_what_they_need() -> None:
    assert LOCK["collect_requirements"](PROJECT, "dev") == [
        "numpy>=2.4,<2.5", "PyYAML>=6", "captum>=0.9,<0.10", "fastapi", "mlflow[auth]",
    ]  # fmt: skip


def test_locked_versions_stay_while_the_requirements_allow_them() -> None:
    keep = LOCK["versions_to_keep"]
    assert keep(LOCKED, ["numpy>=2.4,<2.5"], []) == [f"{name}=={version}" for name, version in LOCKED.items()]
    assert keep(LOCKED, ["numpy>=2.5", "pyyaml>=6"], []) == ["PyYAML==6.0.3", "smart-open==9.0.2", "captum==0.9.0"]


def test_packages_are_renewed_by_any_spelling_of_their_names() -> None:
    keep = LOCK["versions_to_keep"]
    assert keep(LOCKED, [], ["pyyaml", "Smart_Open"]) == ["numpy==2.4.3", "captum==0.9.0"]
    assert keep(LOCKED, [], LOCKED) == []
    with pytest.raises(SystemExit, match=r"--upgrade-package numpi: requirements\.lock has no such package"):
        keep(LOCKED, [], ["numpi"])


def test_lock_keeps_the_spelling_of_names_and_is_sorted_by_that_of_the_index() -> None:
    text = LOCK["render_lock"]({"smart_open": "9.0.2", "pyyaml": "6.0.4", "a_b": "1", "a-a": "1"}, LOCKED)
    assert text == LOCK["HEADER"] + "a-a==1\na_b==1\nPyYAML==6.0.4\nsmart-open==9.0.2\n"
    assert LOCK["read_lock"](text) == {"a-a": "1", "a_b": "1", "PyYAML": "6.0.4", "smart-open": "9.0.2"}


def test_changes_are_named() -> None:
    after = {"numpy": "2.4.4", "pyyaml": "6.0.3", "smart_open": "9.0.2", "torch": "2.13.0"}
    assert LOCK["changes"](LOCKED, after) == [
        "captum: 0.9.0 -> no longer needed", "numpy: 2.4.3 -> 2.4.4", "torch: new -> 2.13.0",
    ]  # fmt: skip


def test_lock_of_the_repository_satisfies_the_project() -> None:
    locked = LOCK["read_lock"]((ROOT / "requirements.lock").read_text())
    requirements = LOCK["collect_requirements"](
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"], LOCK["EXTRA"]
    )
    assert LOCK["versions_to_keep"](locked, requirements, []) == [f"{name}=={v}" for name, v in locked.items()]
    assert LOCK["render_lock"](locked, locked) == (ROOT / "requirements.lock").read_text()
