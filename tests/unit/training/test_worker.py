"""The worker's process: what it takes over and what it says when it fails."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from horovod.common.exceptions import HorovodInternalError

from farandole.errors import ModelError
from farandole.process.messages import parse_line
from farandole.spec import Job
from farandole.training import worker


def _said(error: BaseException, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    try:
        raise error
    except BaseException as raised:  # noqa: BLE001 - as the worker does
        worker._report_failure(raised)
    _, data = parse_line(capsys.readouterr().out)
    assert data is not None
    return data


def test_our_errors_keep_their_kind_and_detail(capsys: pytest.CaptureFixture[str]) -> None:
    said = _said(ModelError("wrong", detail="evidence"), capsys)
    assert (said["event"], said["kind"], said["message"], said["detail"]) == (
        "failed", "ModelError", "wrong", "evidence",
    )  # fmt: skip


def test_a_rank_that_lost_a_peer_does_not_pass_for_the_cause(capsys: pytest.CaptureFixture[str]) -> None:
    assert _said(HorovodInternalError("gone"), capsys)["kind"] == "PeerLost"


def test_an_error_of_the_disk_names_the_file_and_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    said = _said(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/state.pt"), capsys)
    assert said["kind"] == "TrainingError"
    assert said["message"].startswith("/data/state.pt: No space left on device; free some space")


def test_too_little_memory_names_the_batch(capsys: pytest.CaptureFixture[str]) -> None:
    assert _said(MemoryError(), capsys)["message"].startswith("train.global_batch_size: a worker ran out of memory")


def test_any_other_error_names_its_place_and_carries_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    said = _said(ZeroDivisionError("by zero"), capsys)
    assert said["message"].startswith("ZeroDivisionError: by zero in ")
    assert f"{Path(__file__).name}, line " in said["message"]
    assert said["detail"].count("Traceback") == 1


def test_the_environment_fills_in_what_the_launcher_did_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOROVOD_RANK", "1")
    monkeypatch.delenv("MY_SECRET", raising=False)
    file = tmp_path / "environment.json"
    file.write_text(json.dumps({"HOROVOD_RANK": "0", "MY_SECRET": "s"}))
    worker._enter_environment(str(file))
    assert (os.environ["HOROVOD_RANK"], os.environ["MY_SECRET"]) == ("1", "s")
    monkeypatch.delenv("MY_SECRET")


def test_a_worker_that_is_started_by_hand_for_a_gang_says_so(
    home: Path, make_job: Callable[..., Job], tmp_path: Path
) -> None:
    (tmp_path / "job.json").write_text(make_job().model_dump_json())
    command = [
        sys.executable,
        "-m",
        "farandole.training.worker",
        "--job",
        tmp_path / "job.json",
        "--directory",
        tmp_path,
    ]
    environment = {**os.environ, "FARANDOLE_WORKERS": "2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    _, said = parse_line(done.stdout.splitlines()[-1])
    assert said is not None
    assert said["kind"] == "UnavailableError"
    assert "2 workers were asked for and this one is in a gang of 1" in said["message"]
