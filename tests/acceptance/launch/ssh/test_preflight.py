"""What is wrong with hosts is found before a job starts, and told with host, finding and remedy. The hosts are real."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farandole.errors import SpecError
from farandole.launch.agent.probe import versions
from farandole.launch.hosts import Host
from farandole.launch.ssh.preflight import PreflightReport, check_hosts, evaluate_probe
from farandole.launch.ssh.staging import Staging
from farandole.spec import Job, save_job
from tests.support.made_data import Made
from tests.support.netns import Network, network
from tests.support.paths import PACKAGE

__all__ = ["network"]

MakeJob = Callable[..., Job]


@pytest.fixture(scope="module")
def shared_data(network: Network, made: Callable[..., Made]) -> dict[str, Any]:
    """The `data` part of a job whose dataset all hosts see."""
    output = network.shared / "dataset"
    shutil.copytree(made().path, output)
    return {**made().data, "output": str(output)}


@pytest.fixture
def make_hosts_job(network: Network, shared_data: dict[str, Any], make_job: MakeJob) -> MakeJob:
    """A job for the three hosts; changes of `ssh` are those of `backend.hosts`."""

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


def _wrong(checked: PreflightReport) -> list[str]:
    return [str(finding) for finding in checked.wrong]


def test_sound_hosts_pass(network: Network, make_hosts_job: MakeJob) -> None:
    checked = check_hosts(make_hosts_job())
    assert _wrong(checked) == []
    assert (checked.fit, checked.slots) == (True, 3)
    of_one = [finding.name for finding in checked.findings if finding.host == "node2"]
    assert of_one == ["ssh", "versions", "clock", "disk", "address", "dataset", "checkpoints", "ports"]
    assert not list((network.shared / "checkpoints").iterdir())


def test_a_host_that_is_cut_off_is_named_and_the_others_are_looked_at(
    network: Network, make_hosts_job: MakeJob
) -> None:
    network.cut("node2")
    try:
        checked = check_hosts(make_hosts_job(ssh={"connect_timeout_s": 2}))
    finally:
        network.mend("node2")
    (wrong,) = _wrong(checked)
    assert (checked.fit, checked.slots) == (True, 2)
    assert wrong.startswith("node2: ssh: connect to host ")
    assert "no firewall is between: try `ssh node2`" in wrong


def test_doctor_shows_each_host(network: Network, make_hosts_job: MakeJob) -> None:
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
    assert all(finding["remedy"].startswith("its SSH server does not know the key; add") for finding in findings)


def test_a_key_that_the_hosts_do_not_know(network: Network, make_hosts_job: MakeJob) -> None:
    job = make_hosts_job(ssh={"identity_file": str(network.directory / "stranger")})
    wrong = _wrong(check_hosts(job))
    assert len(wrong) == 3
    assert wrong[0].startswith("node1: root@")
    assert ").; its SSH server does not know the key; add the public key" in wrong[0]
    assert "backend.hosts.identity_file" in wrong[0]


def test_a_host_key_that_changed(network: Network, make_hosts_job: MakeJob, tmp_path: Path) -> None:
    known = tmp_path / "known"
    other = (network.directory / "stranger.pub").read_text().split()
    known.write_text(f"{network.hosts['node3'].address} {other[0]} {other[1]}\n")
    wrong = _wrong(check_hosts(make_hosts_job(ssh={"known_hosts_file": str(known)})))
    (only,) = wrong
    assert only.startswith("node3: Host key verification failed.; if it was made anew, `ssh-keygen -R node3`")


def test_a_host_without_the_python(make_hosts_job: MakeJob) -> None:
    wrong = _wrong(check_hosts(make_hosts_job(ssh={"python": "/opt/nowhere/bin/python"})))
    assert len(wrong) == 3
    assert wrong[1].startswith("node2: there is no program /opt/nowhere/bin/python (")
    assert wrong[1].endswith("install Farandole there in the same place, or name its Python in backend.hosts.python")


def test_a_python_without_farandole(network: Network, make_hosts_job: MakeJob) -> None:
    wrong = _wrong(check_hosts(make_hosts_job(ssh={"python": _python(network, "bare", "-I -S")})))
    assert "bare has no Farandole of this version (" in wrong[0]
    assert "backend.hosts.python" in wrong[0]


def test_another_farandole(network: Network, make_hosts_job: MakeJob) -> None:
    place = network.shared / "other"
    shutil.copytree(PACKAGE, place / "farandole", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "farandole" / "errors.py").write_text((PACKAGE / "errors.py").read_text() + "\n# another version\n")
    python = _python(network, "other-python", "", f"PYTHONPATH={place}")
    wrong = _wrong(check_hosts(make_hosts_job(ssh={"python": python})))
    assert len(wrong) == 3
    assert wrong[2].startswith("node3: sources ")
    assert f", here {versions()['sources']}; all machines of a gang need the same versions: install " in wrong[2]


def _python(network: Network, name: str, options: str, variables: str = "") -> str:
    path = network.shared / name
    path.write_text(f'#!/bin/sh\nexec env {variables} {sys.executable} {options} "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def small_disk(network: Network) -> Iterator[Path]:
    """A place on `node1` that takes 64 KiB."""
    host = network.hosts["node1"]
    place = host.directory / "home" / "small"
    place.mkdir()
    host.inside.start("mount", "-t", "tmpfs", "-o", "size=64k", "none", place)
    yield place
    host.inside.start("umount", place)


def test_a_disk_that_is_full(small_disk: Path, make_hosts_job: MakeJob, tmp_path: Path) -> None:
    job = make_hosts_job(ssh={"home": str(small_disk)}, resources__hosts=["node1:3"])
    (wrong,) = _wrong(check_hosts(job))
    assert wrong.startswith(f"node1: 0.0 GB free in {small_disk}; at least 1 GB are needed (backend.hosts.min_free_gb)")

    assert job.folder is not None
    Path(job.folder, "weights.bin").write_bytes(bytes(range(256)) * 1024)
    job = make_hosts_job(ssh={"home": str(small_disk), "min_free_gb": 0}, resources__hosts=["node1:3"])
    directory = tmp_path / "job"
    directory.mkdir()
    reasons = Staging(job, directory).prepare([Host("node1", 3)])
    assert "the job's folder cannot be unpacked (No space left on device); free some space" in reasons["node1"]


def test_a_dataset_that_only_this_machine_sees(make_hosts_job: MakeJob, made: Callable[..., Made]) -> None:
    wrong = _wrong(check_hosts(make_hosts_job(data=made().data)))
    assert len(wrong) == 3
    assert wrong[0].startswith(f"node1: it does not see the dataset {made().path} (")
    assert wrong[0].endswith("data.output has to be a directory that all hosts share, or s3://BUCKET/FOLDER")


def test_checkpoints_that_are_another_directory_there(
    network: Network, make_hosts_job: MakeJob, tmp_path: Path
) -> None:
    place = tmp_path / "checkpoints"
    job = make_hosts_job(train__checkpoint={"directory": str(place)})
    wrong = _wrong(check_hosts(job))
    assert wrong[0].startswith(f"node1: {place} cannot be written (No such file or directory); train.checkpoint.dir")
    for host in network.hosts.values():
        host.inside.start("mkdir", "-p", place)
    wrong = _wrong(check_hosts(job))
    assert wrong[0].startswith(f"node1: {place} is another directory there than here; train.checkpoint.directory has")


def test_hosts_that_do_not_reach_each_other(network: Network, make_hosts_job: MakeJob) -> None:
    host, other = network.hosts["node1"], network.hosts["node2"].address
    host.inside.run("ip", "route", "add", "blackhole", f"{other}/32")
    try:
        wrong = _wrong(check_hosts(make_hosts_job()))
    finally:
        host.inside.run("ip", "route", "del", "blackhole", f"{other}/32")
    assert any(text.startswith(f"node1: it does not reach node2 ({other} port ") for text in wrong)
    assert "let the hosts and this machine reach each other's ports" in wrong[0]


def test_what_no_host_can_mend_is_told_of_the_job(make_hosts_job: MakeJob) -> None:
    job = make_hosts_job(train__checkpoint={}, tracking__uri=None, resources__workers=4)
    checked = check_hosts(job)
    assert not checked.fit
    assert [finding.host for finding in checked.wrong] == [None, None, None]
    texts = _wrong(checked)
    assert texts[0].startswith(
        "train.checkpoint.directory: there is none, so checkpoints would lie on one of the hosts"
    )
    assert texts[1].startswith("tracking.uri: sqlite:///")
    assert texts[2].startswith("resources.hosts: room for 3 workers; at least 4 are needed")


def test_a_job_without_hosts(make_job: MakeJob) -> None:
    with pytest.raises(SpecError, match=r"resources\.hosts: there are none; write a list"):
        check_hosts(make_job())


@pytest.mark.parametrize(
    ("there_s", "expected"),
    [(1000.0, None), (1001.5, None), (960.0, "its clock is 40 s behind"), (1033.0, "its clock is 31 s ahead of")],
)
def test_clocks(there_s: float, expected: str | None, make_job: MakeJob) -> None:
    seen = {
        "versions": versions(),
        "time_s": there_s,
        "home": "/home/x",
        "free_gb": 9.0,
        "writable": True,
        "address": "10.0.0.1",
    }
    wrong = [
        str(finding) for finding in evaluate_probe(make_job(), "node1", seen, None, 1000.0, 1002.0) if not finding.ok
    ]
    assert [text.startswith(f"node1: {expected}") for text in wrong] == [True] * (expected is not None)
