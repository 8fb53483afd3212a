"""When a running gang continues with another number of workers."""

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
from tests.support.queued import wait_until


def _job(hosts: Path, **resources: object) -> Job:
    data = {"sources": {"things": {"path": "things.csv"}}, "features": {"x": {"kind": "numeric"}}}
    resources = {"workers": 3, "min_workers": 1, "hosts": {"file": str(hosts)}, **resources}
    return parse_job({"name": "small", "data": data, "resources": resources})


class Gang:
    """Two of three requested workers, and their autoscaler."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, **resources: object) -> None:
        monkeypatch.setattr(autoscale, "_CHECK_EVERY_S", 0.0)
        self.directory, self.hosts = directory, directory / "hosts"
        self.hosts.write_text("localhost:2\n")
        self.warnings: list[Event] = []
        self.autoscaler = Autoscaler(_job(self.hosts, **resources), directory, self.warnings.append)
        self.autoscaler.start_attempt()
        self.attempt = Attempt(1, (Host("localhost", 2),), first_step_s=1.0)

    def request(self, workers: int) -> None:
        path = self.directory / "scale.json"
        path.write_text(json.dumps({"workers": workers}))
        os.utime(path, ns=(time.time_ns(), time.time_ns()))

    def should_rescale(self, checks: int = 100) -> bool:
        for _ in range(checks):
            if self.autoscaler.should_rescale(self.attempt):
                return True
            time.sleep(0.005)
        return False

    def wait_until_it_should_rescale(self) -> None:
        """Wait for the survey of the hosts, which has a separate thread."""
        wait_until(lambda: self.autoscaler.should_rescale(self.attempt))


def test_hosts_that_are_available_again_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gang = Gang(tmp_path, monkeypatch, regrow_s=0.01)
    assert not gang.should_rescale()
    gang.hosts.write_text("localhost:3\n")
    gang.wait_until_it_should_rescale()
    assert gang.warnings == [], "nothing was requested"


def test_hosts_are_not_surveyed_again_without_regrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gang = Gang(tmp_path, monkeypatch, regrow_s=None)
    gang.hosts.write_text("localhost:3\n")
    assert not gang.should_rescale()


def test_lost_host_does_not_stop_a_training_gang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gang = Gang(tmp_path, monkeypatch, regrow_s=0.01)
    gang.hosts.write_text("localhost:1\n")
    assert not gang.should_rescale()


def test_request_is_met_or_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gang = Gang(tmp_path, monkeypatch, regrow_s=None)
    gang.request(4)
    assert not gang.should_rescale()
    wait_until(lambda: gang.should_rescale(1) or bool(gang.warnings))
    assert [str(event) for event in gang.warnings] == [
        "warning: 4 workers are requested, but the hosts only have slots for 2"
    ]
    gang.hosts.write_text("localhost:9\n")
    assert not gang.should_rescale()
    gang.request(4)
    gang.wait_until_it_should_rescale()
    gang.request(1)
    gang.wait_until_it_should_rescale()


@pytest.mark.parametrize("trained", [True, False])
def test_gang_only_rescales_between_the_first_and_the_last_step(
    trained: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gang = Gang(tmp_path, monkeypatch)
    gang.attempt.is_trained, gang.attempt.first_step_s = trained, 1.0 if trained else None
    gang.request(1)
    assert not gang.should_rescale(20)
