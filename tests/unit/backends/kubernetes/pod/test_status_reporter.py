from __future__ import annotations

import json
import threading
from typing import Any, cast

import pytest

from farandole.backends.kubernetes.cluster import Cluster
from farandole.backends.kubernetes.launcher_status import CANCEL, RESULT, STATUS, LauncherStatus
from farandole.backends.kubernetes.pod import status_reporter
from farandole.backends.kubernetes.pod.status_reporter import StatusReporter
from farandole.events import EpochMetrics
from farandole.jobdir.layout import STATUS as STATUS_FILE


class ConfigMap:
    """A ConfigMap in memory.

    Args:
        data: Its content.
    """

    def __init__(self, **data: str) -> None:
        self.data, self.writes = data, 0

    def patch(self, kind: str, name: str, change: dict[str, Any]) -> dict[str, Any]:
        assert (kind, name) == ("ConfigMap", "tiny-status")
        self.writes += bool(change["data"])
        self.data |= change["data"]
        return {"data": dict(self.data)}

    @property
    def status(self) -> LauncherStatus:
        return LauncherStatus.from_json(self.data[STATUS])


def _reporter(config_map: ConfigMap, submission: int, on_cancel: Any = None) -> StatusReporter:
    return StatusReporter(cast(Cluster, config_map), "tiny-status", submission, on_cancel or (lambda: None))


def test_only_changes_are_reported() -> None:
    config_map = ConfigMap()
    with _reporter(config_map, 2) as reporter:
        assert reporter.before == LauncherStatus()
        reporter.report(state="running", stage="prepare", reason="the dataset is being prepared")
        reporter.report(state="running")
        assert config_map.writes == 1
        reporter.report_result({"model": {"uri": "models:/tiny/1"}})
    assert config_map.status == LauncherStatus(2, "running", "prepare", "the dataset is being prepared")
    assert json.loads(config_map.data[RESULT])["model"]["uri"] == "models:/tiny/1"


def test_report_of_an_earlier_launcher_is_available() -> None:
    config_map = ConfigMap(**{STATUS: LauncherStatus(1, "failed", "train", "a worker died", attempt=3).to_json()})
    with _reporter(config_map, 1) as reporter:
        assert (reporter.before.state, reporter.before.attempt) == ("failed", 3)


def test_status_of_the_supervisor_is_followed_while_it_runs(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_reporter, "_POLL_S", 0.01)
    reported = threading.Event()
    config_map = ConfigMap()
    write = config_map.patch

    def patch(kind: str, name: str, change: dict[str, Any]) -> dict[str, Any]:
        answer = write(kind, name, change)
        if "step 7" in change["data"].get(STATUS, ""):
            reported.set()
        return answer

    monkeypatch.setattr(config_map, "patch", patch)
    status = {"state": "running", "reason": "step 7", "attempt": 1, "workers": 2, "step": 7, "pid": 1, "hosts": []}
    (tmp_path / STATUS_FILE).write_text(json.dumps(status))
    with _reporter(config_map, 1) as reporter:
        reporter.on_event(EpochMetrics(1, 3, {"roc_auc": 0.75}))
        reporter.follow(tmp_path)
        assert reported.wait(60)
    progress = config_map.status.progress
    assert progress is not None
    assert (progress.epoch, progress.epochs, progress.metrics) == (1, 3, {"roc_auc": 0.75})
    assert (config_map.status.step, config_map.status.workers, config_map.status.attempt) == (7, 2, 1)


def test_cancellation_of_this_submission_is_noticed_once() -> None:
    calls: list[str] = []
    config_map = ConfigMap(**{CANCEL: "1"})
    with _reporter(config_map, 2, lambda: calls.append("cancelled")) as reporter:
        assert calls == []  # an earlier submission was cancelled
        config_map.data[CANCEL] = "2"
        reporter.report(state="running")
        reporter.report(state="queued")
    assert calls == ["cancelled"]
