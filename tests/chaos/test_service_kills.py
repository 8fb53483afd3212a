"""A service under load whose model is replaced, whose worker is killed, and which is ended."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.killed_worker import statuses_of_killed_workers
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
            # what the worker held is answered 503, and nothing breaks off
            service.wait_until(lambda: _failed(load) == died["answered_503"], "the answers for the killed worker")
            assert died["answered_503"] <= clients
            assert {answer.status for answer in load.answers} <= {200, 503}
            assert load.lost == []
            metrics = ask(url, "/metrics").body.decode()
            assert "farandole_worker_restarts 1.0" in metrics

            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(60) == 0
        assert load.lost == []
    assert service.events("workers_killed") == []


def _failed(load: Load) -> int:
    return sum(answer.status == 503 for answer in load.answers)


def test_caller_of_a_worker_that_is_killed_at_any_line_has_a_whole_answer_or_a_503(tmp_path: Path) -> None:
    found = statuses_of_killed_workers(tmp_path, step=1)
    assert found[-1] == [200, 200]
    assert {tuple(each) for each in found[:-1]} == {(503,), (200, 503)}


def _replace_link(link: Path, target: Path) -> None:
    draft = link.with_name("draft")
    draft.symlink_to(target)
    draft.replace(link)
