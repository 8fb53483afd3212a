"""Checks of this machine, one by one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from farandole.cli import doctor
from farandole.cli.doctor import Finding


def test_usable_disk_and_local_store_pass(farandole_home: Path) -> None:
    disk, store = doctor._check_disk(), doctor._check_store()
    free = shutil.disk_usage(farandole_home.parent).free / 1e9
    assert disk.ok == (free >= 2)
    assert f"GB free in {farandole_home}" in disk.found
    assert store == Finding("MLflow store", True, f"sqlite:///{farandole_home / 'mlflow.db'}", "")


def test_missing_package_is_reported_with_its_remedy() -> None:
    assert doctor._check_package("no-such-package") == Finding(
        "no-such-package", False, "not installed", "run `make setup`"
    )
    assert doctor._check_package("pyarrow").ok


@pytest.mark.parametrize(
    ("variable", "value", "check", "found"),
    [
        ("JAVA_HOME", "/nowhere", doctor._check_java, "JAVA_HOME is /nowhere, which has no bin/java"),
        ("MLFLOW_TRACKING_URI", "http://ada:s3cret@127.0.0.1:1", doctor._check_store, "http://127.0.0.1:1: "),
    ],
)
def test_failed_check_says_what_was_found_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, check: Callable[[], Finding], found: str
) -> None:
    monkeypatch.setenv(variable, value)
    finding = check()
    assert not finding.ok
    assert found in finding.found
    assert finding.remedy
    assert "s3cret" not in str(finding)
