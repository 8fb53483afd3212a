"""What of the environment goes to workers openly, and what by file."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from farandole.launch.environment import portable_variables, private_variables_file, public_variables


def test_the_environment_lies_in_a_file_for_its_user_only_and_only_while_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET", "s3cret")
    monkeypatch.setenv("HOROVOD_CYCLE_TIME", "3")
    assert public_variables()["HOROVOD_CYCLE_TIME"] == "3"
    assert "MY_SECRET" not in public_variables()
    with private_variables_file(tmp_path / "environment.json", 3) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        told = json.loads(path.read_text())
        assert told["MY_SECRET"] == "s3cret"
        assert told["OMP_NUM_THREADS"] == "3"
        assert "HOROVOD_CYCLE_TIME" not in told
    assert not path.exists()


def test_what_describes_this_machine_or_session_does_not_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    stays = (
        "PATH",
        "HOME",
        "PYTHONPATH",
        "FARANDOLE_HOME",
        "SSH_AUTH_SOCK",
        "KUBERNETES_SERVICE_HOST",
        "TMPDIR",
        "CUDA_HOME",
    )
    travels = ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "MY_SECRET", "LANG", "HOROVOD_CYCLE_TIME")
    for name in (*stays, *travels):
        monkeypatch.setenv(name, "x")
    assert {name for name in (*stays, *travels) if name in portable_variables()} == set(travels)
