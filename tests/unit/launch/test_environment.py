"""Ways by which environment variables reach the workers."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from farandole.launch.environment import portable_variables, private_variables_file, public_variables


def test_private_variables_are_in_a_file_that_only_the_user_can_read_until_the_block_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET", "s3cret")
    monkeypatch.setenv("HOROVOD_CYCLE_TIME", "3")
    assert public_variables()["HOROVOD_CYCLE_TIME"] == "3"
    assert "MY_SECRET" not in public_variables()
    with private_variables_file(tmp_path / "environment.json", 3) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        written = json.loads(path.read_text())
        assert written["MY_SECRET"] == "s3cret"
        assert written["OMP_NUM_THREADS"] == "3"
        assert "HOROVOD_CYCLE_TIME" not in written
    assert not path.exists()


def test_variables_that_describe_this_machine_or_session_are_not_portable(monkeypatch: pytest.MonkeyPatch) -> None:
    local = (
        "PATH",
        "HOME",
        "PYTHONPATH",
        "FARANDOLE_HOME",
        "SSH_AUTH_SOCK",
        "KUBERNETES_SERVICE_HOST",
        "TMPDIR",
        "CUDA_HOME",
    )
    portable = ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "MY_SECRET", "LANG", "HOROVOD_CYCLE_TIME")
    for name in (*local, *portable):
        monkeypatch.setenv(name, "x")
    assert {name for name in (*local, *portable) if name in portable_variables()} == set(portable)
