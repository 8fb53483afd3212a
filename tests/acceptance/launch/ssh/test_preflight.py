"""Preflight checks of real hosts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farandole.launch.agent.probe import versions
from farandole.launch.hosts import Host
from farandole.launch.ssh.preflight import PreflightReport, check_hosts
from farandole.launch.ssh.staging import Staging
from farandole.spec import Job, save_job
from tests.support.made_data import Made
from tests.support.netns import Network, network
from tests.support.paths import PACKAGE

__all__ = ["network"]

MakeJob = Callable[..., Job]


@pytest.fixture(scope="module")
def shared_data(network: Network, made: Callable[..., Made]) -> dict[str, Any]:
    """Return the `data` part of a job whose dataset all hosts see."""
    output = network.shared / "dataset"
    shutil.copytree(made().path, output)
    return {**made().data, "output": str(output)}


@pytest.fixture
def make_hosts_job(network: Network, shared_data: dict[str, Any], make_job: MakeJob) -> MakeJob:
    """Return a function that creates a job for the three hosts; changes of `ssh` are those of `backend.hosts`."""

    def make(ssh: dict[str, Any] | None = None, **changes: Any) -> Job:
        given: dict[str, Any] = {
            "data": shared_data,
            "resources__workers": 3,
            "resources__hosts": ["node1", "node2", "node3"],
            "train__checkpoint": {"directory": str(network.shared / "checkpoints")},
            "tracking__uri": f"http://{network.address}:5000",
            "backend": {"hosts": {**network.ssh, **(ssh or {})}},
        }
        return make_job(**{**given, **changes})

    return make


def _failed(report: PreflightReport) -> list[str]:
    return [str(check) for check in report.failed]


def test_correct_hosts_pass_all_checks(network: Network, make_hosts_job: MakeJob) -> None:
    report = check_hosts(make_hosts_job())
    assert _failed(report) == []
    assert (report.is_job_ok, report.slots) == (True, 3)
    of_one = [check.name for check in report.checks if check.host == "node2"]
    assert of_one == ["ssh", "versions", "clock", "disk", "address", "dataset", "checkpoints", "ports"]
    assert not list((network.shared / "checkpoints").iterdir())


def test_unreachable_host_is_reported_and_the_others_are_checked(network: Network, make_hosts_job: MakeJob) -> None:
    network.cut("node2")
    try:
        report = check_hosts(make_hosts_job(ssh={"connect_timeout_s": 2}))
    finally:
        network.plug_in("node2")
    (failed,) = _failed(report)
    assert (report.is_job_ok, report.slots) == (True, 2)
    assert failed.startswith("node2: ssh: connect to host ")
    assert "no firewall is between: try `ssh node2`" in failed


def test_doctor_lists_each_host(network: Network, make_hosts_job: MakeJob) -> None:
    job = make_hosts_job(ssh={"identity_file": str(network.directory / "stranger")})
    path = save_job(job, network.directory / "job.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "farandole", "doctor", "--hosts", str(path), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    findings = json.loads(done.stdout)["findings"]
    assert [finding["name"] for finding in findings] == ["node1: ssh", "node2: ssh", "node3: ssh"]
    assert all(finding["remedy"].startswith("its SSH server does not accept the key; add") for finding in findings)


def test_unknown_key_is_reported(network: Network, make_hosts_job: MakeJob) -> None:
    job = make_hosts_job(ssh={"identity_file": str(network.directory / "stranger")})
    failed = _failed(check_hosts(job))
    assert len(failed) == 3
    assert failed[0].startswith("node1: root@")
    assert ").; its SSH server does not accept the key; add the public key" in failed[0]
    assert "backend.hosts.identity_file" in failed[0]


def test_changed_host_key_is_reported(network: Network, make_hosts_job: MakeJob, tmp_path: Path) -> None:
    known = tmp_path / "known"
    other = (network.directory / "stranger.pub").read_text().split()
    known.write_text(f"{network.hosts['node3'].address} {other[0]} {other[1]}\n")
    failed = _failed(check_hosts(make_hosts_job(ssh={"known_hosts_file": str(known)})))
    (only,) = failed
    assert only.startswith("node3: Host key verification failed.; if the host was reinstalled, `ssh-keygen -R node3`")


def test_missing_python_is_reported(make_hosts_job: MakeJob) -> None:
    failed = _failed(check_hosts(make_hosts_job(ssh={"python": "/opt/nowhere/bin/python"})))
    assert len(failed) == 3
    assert failed[1].startswith("node2: there is no program /opt/nowhere/bin/python (")
    assert failed[1].endswith(
        "install Farandole there in the same location, or name its Python in backend.hosts.python"
    )


def test_python_without_farandole_is_reported(network: Network, make_hosts_job: MakeJob) -> None:
    failed = _failed(check_hosts(make_hosts_job(ssh={"python": _python(network, "bare", "-I -S")})))
    assert "bare does not have this version of Farandole (" in failed[0]
    assert "backend.hosts.python" in failed[0]


def test_other_sources_of_farandole_are_reported(network: Network, make_hosts_job: MakeJob) -> None:
    directory = network.shared / "other"
    shutil.copytree(PACKAGE, directory / "farandole", ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "farandole" / "errors.py").write_text((PACKAGE / "errors.py").read_text() + "\n# another version\n")
    python = _python(network, "other-python", "", f"PYTHONPATH={directory}")
    failed = _failed(check_hosts(make_hosts_job(ssh={"python": python})))
    assert len(failed) == 3
    assert failed[2].startswith("node3: sources ")
    assert f", here {versions()['sources']}; all machines of a gang need the same versions: install " in failed[2]


def _python(network: Network, name: str, options: str, variables: str = "") -> str:
    path = network.shared / name
    path.write_text(f'#!/bin/sh\nexec env {variables} {sys.executable} {options} "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def small_disk(network: Network) -> Iterator[Path]:
    """Mount a file system of 64 KiB on `node1`."""
    host = network.hosts["node1"]
    directory = host.directory / "home" / "small"
    directory.mkdir()
    host.inside.start("mount", "-t", "tmpfs", "-o", "size=64k", "none", directory)
    yield directory
    host.inside.start("umount", directory)


def test_full_disk_is_reported(small_disk: Path, make_hosts_job: MakeJob, tmp_path: Path) -> None:
    job = make_hosts_job(ssh={"home": str(small_disk)}, resources__hosts=["node1:3"])
    (failed,) = _failed(check_hosts(job))
    assert failed.startswith(
        f"node1: 0.0 GB free in {small_disk}; at least 1 GB are needed (backend.hosts.min_free_gb)"
    )

    assert job.folder is not None
    Path(job.folder, "weights.bin").write_bytes(bytes(range(256)) * 1024)
    job = make_hosts_job(ssh={"home": str(small_disk), "min_free_gb": 0}, resources__hosts=["node1:3"])
    directory = tmp_path / "job"
    directory.mkdir()
    reasons = Staging(job, directory).prepare([Host("node1", 3)])
    assert "No space left on device; free some space" in reasons["node1"]


def test_dataset_that_only_this_machine_sees_is_reported(make_hosts_job: MakeJob, made: Callable[..., Made]) -> None:
    failed = _failed(check_hosts(make_hosts_job(data=made().data)))
    assert len(failed) == 3
    assert failed[0].startswith(f"node1: it does not see the dataset {made().path} (")
    assert failed[0].endswith("data.output must be a directory that all hosts share, or s3://BUCKET/FOLDER")


def test_checkpoints_in_a_different_directory_are_reported(
    network: Network, make_hosts_job: MakeJob, tmp_path: Path
) -> None:
    directory = tmp_path / "checkpoints"
    job = make_hosts_job(train__checkpoint={"directory": str(directory)})
    failed = _failed(check_hosts(job))
    assert failed[0].startswith(
        f"node1: {directory} cannot be written (No such file or directory); train.checkpoint.dir"
    )
    for host in network.hosts.values():
        host.inside.start("mkdir", "-p", directory)
    failed = _failed(check_hosts(job))
    assert failed[0].startswith(
        f"node1: {directory} is a different directory there than here; train.checkpoint.directory must"
    )


def test_unreachable_ports_are_reported(network: Network, make_hosts_job: MakeJob) -> None:
    host, other = network.hosts["node1"], network.hosts["node2"].address
    host.inside.run("ip", "route", "add", "blackhole", f"{other}/32")
    try:
        failed = _failed(check_hosts(make_hosts_job()))
    finally:
        host.inside.run("ip", "route", "del", "blackhole", f"{other}/32")
    assert any(text.startswith(f"node1: it does not reach node2 ({other} port ") for text in failed)
    assert "let the hosts and this machine reach each other's ports" in failed[0]


def test_unsuitable_settings_are_reported_for_the_job(make_hosts_job: MakeJob) -> None:
    job = make_hosts_job(train__checkpoint={}, tracking__uri=None, resources__workers=4)
    report = check_hosts(job)
    assert not report.is_job_ok
    assert [check.host for check in report.failed] == [None, None, None]
    texts = _failed(report)
    assert texts[0].startswith(
        "train.checkpoint.directory: not set, so checkpoints would be written to one of the hosts"
    )
    assert texts[1].startswith("tracking.uri: sqlite:///")
    assert texts[2].startswith("resources.hosts: slots for 3 workers; at least 4 are needed")
