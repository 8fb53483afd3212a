"""Hosts of other tests: separate from each other, and removed without a trace."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.netns import Network, lacking, network
from tests.support.paths import ROOT

__all__ = ["network"]


def _on(network: Network, name: str, command: str, timeout_s: int = 5) -> subprocess.CompletedProcess[str]:
    ssh = ["ssh", "-F", network.ssh["config_file"], "-i", network.ssh["identity_file"], "-o", "BatchMode=yes"]
    options = ["-o", f"ConnectTimeout={timeout_s}"]
    return subprocess.run([*ssh, *options, name, command], capture_output=True, text=True, check=False)


def test_hosts_share_one_directory_and_nothing_else(network: Network, tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    (network.shared / "for-all").touch()
    for name, host in network.hosts.items():
        assert _on(network, name, "hostname").stdout.strip() == name
        found = _on(
            network, name, f"ls /tmp ~ {tmp_path}; ls {network.shared}; echo $FARANDOLE_HOME; touch /tmp/{name}"
        )
        assert "here" not in found.stdout
        assert "for-all" in found.stdout
        assert str(host.directory / "home") in found.stdout
    assert [word for word in _on(network, "node1", "ls /tmp").stdout.split() if word.startswith("node")] == ["node1"]


def test_hosts_reach_each_other_until_they_are_unplugged(network: Network) -> None:
    target = network.hosts["node2"].address
    connect = f"timeout 2 bash -c '</dev/tcp/{target}/22'"
    assert _on(network, "node1", connect).returncode == 0
    network.cut("node2")
    try:
        assert _on(network, "node1", connect).returncode != 0
        assert _on(network, "node2", "true", timeout_s=1).returncode == 255
    finally:
        network.plug_in("node2")
    assert _on(network, "node1", connect).returncode == 0


def test_hosts_are_removed_with_the_process_that_created_them(tmp_path: Path) -> None:
    reason = lacking()
    if reason is not None:
        pytest.skip(reason)
    before = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.count("\n")
    (tmp_path / "shared").mkdir()
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from tests.support.netns import Network\n"
        "with Network(Path(sys.argv[2], 'network'), Path(sys.argv[2], 'shared'), 1) as made:\n"
        "    print(made.hosts['node1'].inside.pid, flush=True)\n"
        "    import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, str(ROOT), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -9, killed.stderr
    for _ in range(100):  # the kernel removes namespaces after a while
        after = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.count("\n")
        gone = _gone(int(killed.stdout))
        if after == before and gone:
            break
        time.sleep(0.1)
    assert after == before
    assert gone


def _gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
