"""A service under load whose model is replaced, whose worker is killed, and which is ended."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.served import OTHER_ROW, ROW, make_bundle, running_service
from tests.support.service_clients import Load, ask

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROWS = {"rows": [ROW, OTHER_ROW]}


def test_reload_kill_and_end_under_load_lose_nothing_but_what_the_killed_worker_held(
    farandole_home: Path, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "first")
    other = make_bundle(tmp_path / "second", seed=1)
    link = tmp_path / "current"
    link.symlink_to(bundle.path)
    with running_service(str(link), "--workers", "2", "--no-auth", "--poll", "0.2") as service:
        url = service.url
        clients = 4
        with Load(url, ROWS, clients) as load:
            service.wait_until(lambda: len(load.answers) > 50, "answers")
            _replace_link(link, other.path)
            service.wait_for("reloaded", count=2)
            before = len(load.answers)
            service.wait_until(lambda: len(load.answers) > before + 50, "answers of the new version")
            assert load.lost == []
            assert {answer.status for answer in load.answers} == {200}
            digests = [answer.json["model"]["digest"] for answer in load.answers]
            assert digests[0] == bundle.digest
            assert digests[before:].count(bundle.digest) <= clients  # those that were computed before
            assert set(digests) == {bundle.digest, other.digest}

            victim = service.worker_pids()[0]
            os.kill(victim, signal.SIGKILL)
            died = service.wait_for("worker_died")
            assert (died["worker_pid"], died["restarts"]) == (victim, 1)
            assert "SIGKILL" in died["reason"]
            service.wait_for("worker_ready", count=3)
            assert {answer.status for answer in load.answers} <= {200, 503}
            # of what the worker held, an answer that was on its way to the caller breaks off; the rest has 503
            failed = sum(answer.status == 503 for answer in load.answers)
            assert failed <= died["answered_503"] <= clients
            assert failed + len(load.lost) <= clients, load.lost
            metrics = ask(url, "/metrics").body.decode()
            assert "farandole_worker_restarts 1.0" in metrics
            lost = len(load.lost)

            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(60) == 0
        assert len(load.lost) == lost
    assert service.events("workers_killed") == []


def _replace_link(link: Path, target: Path) -> None:
    draft = link.with_name("draft")
    draft.symlink_to(target)
    draft.replace(link)
