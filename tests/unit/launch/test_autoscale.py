"""When a running gang goes on with another number of workers."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from farandole.events import Event
from farandole.launch import autoscale
from farandole.launch.attempt import Attempt
from farandole.launch.autoscale import Autoscaler
from farandole.launch.hosts import Host
from farandole.spec import Job, parse_job


def _job(hosts: Path, **resources: object) -> Job:
    data = {"sources": {"things": {"path": "things.csv"}}, "features": {"x": {"kind": "numeric"}}}
    resources = {"workers": 3, "min_workers": 1, "hosts": {"file": str(hosts)}, **resources}
    return parse_job({"name": "small", "data": data, "resources": resources})


class Gang:
    """Two workers of the three that are wanted, and what is decided about them."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, **resources: object) -> None:
        monkeypatch.setattr(autoscale, "_LOOK_S", 0.0)
        self.directory, self.hosts = directory, directory / "hosts"
        self.hosts.write_text("localhost:2\n")
        self.warnings: list[Event] = []
        self.resizing = Autoscaler(_job(self.hosts, **resources), directory, self.warnings.append)
        self.resizing.begin()
        self.attempt = Attempt(1, (Host("localhost", 2),), first_step_s=1.0)

    def ask(self, workers: int) -> None:
        path = self.directory / "scale.json"
        path.write_text(json.dumps({"workers": workers}))
        os.utime(path, ns=(time.time_ns(), time.time_ns()))

    def is_due(self, looks: int = 100) -> bool:
        for _ in range(looks):
            if self.resizing.is_due(self.attempt):
                return True
            time.sleep(0.005)
        return False


def test_hosts_that_came_back_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gang = Gang(tmp_path, monkeypatch, regrow_s=0.01)
    assert not gang.is_due()
    gang.hosts.write_text("localhost:3\n")
    assert gang.is_due()
    assert gang.warnings == [], "nobody asked for anything"


def test_hosts_are_not_asked_again_where_that_is_not_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gang = Gang(tmp_path, monkeypatch, regrow_s=None)
    gang.hosts.write_text("localhost:3\n")
    assert not gang.is_due()


def test_one_that_seems_lost_ends_no_gang_that_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gang = Gang(tmp_path, monkeypatch, regrow_s=0.01)
    gang.hosts.write_text("localhost:1\n")
    assert not gang.is_due()


def test_a_request_is_met_or_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gang = Gang(tmp_path, monkeypatch, regrow_s=None)
    gang.ask(4)
    assert not gang.is_due()
    assert [str(event) for event in gang.warnings] == [
        "warning: 4 workers are asked for, and the hosts have no other room than for 2"
    ]
    gang.hosts.write_text("localhost:9\n")
    assert not gang.is_due()
    gang.ask(4)
    assert gang.is_due()
    gang.ask(1)
    assert gang.is_due()


@pytest.mark.parametrize("trained", [True, False])
def test_only_between_the_first_step_and_the_last(
    trained: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gang = Gang(tmp_path, monkeypatch)
    gang.attempt.trained, gang.attempt.first_step_s = trained, 1.0 if trained else None
    gang.ask(1)
    assert not gang.is_due(20)
