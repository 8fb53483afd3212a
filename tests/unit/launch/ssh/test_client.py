"""Commands that reach hosts, and explanations of SSH's failures. Real hosts: see the tests of `preflight`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from farandole.launch.ssh.client import (
    HostUnavailableError,
    agent_command,
    ask_agent,
    explain_failure,
    ssh_command,
    unreachable_reason,
)
from farandole.spec import Ssh


def test_settings_of_the_job_file_reach_ssh() -> None:
    ssh = Ssh(user="trainer", port=2222, identity_file="/keys/a", config_file="/etc/b", known_hosts="strict")
    command = ssh_command(ssh, "node1", "true")
    assert command[:10] == ["ssh", "-T", "-F", "/etc/b", "-i", "/keys/a", "-p", "2222", "-l", "trainer"]
    assert command[-2:] == ["node1", "true"]
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "ControlMaster=no"} <= set(command)


def test_host_keys_are_not_stored_if_checking_is_off() -> None:
    command = ssh_command(Ssh(known_hosts="off"), "10.0.0.1", "true")
    assert {"StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"} <= set(command)
    assert "StrictHostKeyChecking=accept-new" in ssh_command(Ssh(), "10.0.0.1", "true")


def test_agent_runs_with_the_python_and_the_home_of_the_hosts() -> None:
    assert agent_command(Ssh(), "node1")[-1] == f"exec {sys.executable} -m farandole.launch.agent"
    there = Ssh(python="/opt/my python", home="/data/farandole")
    assert agent_command(there, "node1")[-1] == (
        "exec env FARANDOLE_HOME=/data/farandole '/opt/my python' -m farandole.launch.agent"
    )


@pytest.mark.parametrize(
    ("code", "stderr", "expected"),
    [
        (255, "root@node1: Permission denied (publickey).", "add the public key to ~/.ssh/authorized_keys there"),
        (
            255,
            "ssh: Could not resolve hostname node1: Name or service not known",
            "correct the name in resources.hosts",
        ),
        (255, "ssh: connect to host node1 port 22: Connection timed out", "no firewall is between: try `ssh node1`"),
        (255, "REMOTE HOST IDENTIFICATION HAS CHANGED!\nHost key verification failed.", "`ssh-keygen -R node1`"),
        (255, "Host key verification failed.", "connect once by `ssh node1`"),
        (127, "bash: line 1: /x/python: No such file or directory", "name its Python in backend.hosts.python"),
        (1, "/x/python: No module named farandole", "/x/python does not have this version of Farandole"),
        (1, "Traceback\nMemoryError", "MemoryError (exit code 1); try `ssh node1 /x/python -m farandole.launch.agent`"),
        (3, "", "exit code 3 (exit code 3); try"),
    ],
)
def test_every_failure_has_a_remedy(code: int, stderr: str, expected: str) -> None:
    text = str(explain_failure(Ssh(python="/x/python"), "node1", code, stderr))
    assert expected in text
    assert "\n" not in text


def test_remedy_names_the_port_if_it_is_set() -> None:
    assert "`ssh -p 2222 node1`" in str(explain_failure(Ssh(port=2222), "node1", 255, "Connection refused"))


def test_unknown_host_name_is_reported() -> None:
    assert "correct the name in resources.hosts" in str(unreachable_reason(Ssh(), "node1.invalid"))
    with pytest.raises(HostUnavailableError, match="Could not resolve hostname"):
        ask_agent(Ssh(), "node1.invalid", {"do": "probe"})


def test_missing_ssh_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    reason = unreachable_reason(Ssh(), "node1.invalid")
    assert reason == "ssh cannot be started (No such file or directory); install openssh-client on this machine"
