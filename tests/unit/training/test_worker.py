"""Process of a worker: the environment that it loads, and its report of a failure."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from horovod.common.exceptions import HorovodInternalError

from farandole.errors import ModelError
from farandole.process.messages import parse_line
from farandole.training import worker


def _report(error: BaseException, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Return the message of a worker that fails with an error."""
    try:
        raise error
    except BaseException as raised:  # noqa: BLE001 - as the worker does
        worker._report_failure(raised)
    _, data = parse_line(capsys.readouterr().out)
    assert data is not None
    return data


def test_farandole_errors_keep_kind_and_detail(capsys: pytest.CaptureFixture[str]) -> None:
    report = _report(ModelError("wrong", detail="evidence"), capsys)
    assert (report["event"], report["kind"], report["message"], report["detail"]) == (
        "failed", "ModelError", "wrong", "evidence",
    )  # fmt: skip


def test_rank_that_lost_a_peer_is_reported_as_a_victim(capsys: pytest.CaptureFixture[str]) -> None:
    assert _report(HorovodInternalError("gone"), capsys)["kind"] == "PeerLost"


def test_full_disk_is_reported_with_file_and_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    report = _report(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/state.pt"), capsys)
    assert report["kind"] == "TrainingError"
    assert report["message"].startswith("/data/state.pt: No space left on device; free some space")


def test_full_disk_without_a_file_name_is_reported_with_its_line_and_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    message = _report(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), capsys)["message"]
    assert message.startswith("OSError: [Errno 28] No space left on device in ")
    assert message.endswith("; free some space")


@pytest.mark.parametrize(
    ("number", "file", "message"),
    [
        (errno.EACCES, "/data/state.pt", "/data/state.pt: Permission denied; correct the permissions"),
        (errno.ENOENT, "/data/rows", "/data/rows: No such file or directory"),
        (errno.ECONNREFUSED, None, "ConnectionRefusedError: [Errno 111] Connection refused in "),
    ],
)
def test_other_os_errors_are_not_reported_as_a_full_disk(
    number: int, file: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = _report(OSError(number, os.strerror(number), file), capsys)
    assert report["message"].startswith(message)
    assert "free some space" not in report["message"]


def test_memory_error_names_the_batch_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert _report(MemoryError(), capsys)["message"].startswith("train.global_batch_size: a worker ran out of memory")


def test_unknown_error_is_reported_with_line_and_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    report = _report(ZeroDivisionError("by zero"), capsys)
    assert report["message"].startswith("ZeroDivisionError: by zero in ")
    assert f"{Path(__file__).name}, line " in report["message"]
    assert report["detail"].count("Traceback") == 1


def test_environment_file_sets_only_missing_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOROVOD_RANK", "1")
    monkeypatch.delenv("MY_SECRET", raising=False)
    file = tmp_path / "environment.json"
    file.write_text(json.dumps({"HOROVOD_RANK": "0", "MY_SECRET": "s"}))
    worker._load_environment(str(file))
    assert (os.environ["HOROVOD_RANK"], os.environ["MY_SECRET"]) == ("1", "s")
    monkeypatch.delenv("MY_SECRET")
