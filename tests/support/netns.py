"""Separate hosts on this machine, each with an address, an SSH server, processes, /tmp and a home.

A host is a set of Linux namespaces (network, mounts, processes, name). A fourth network namespace is the switch between
them and this machine. All of it belongs to processes that die with the test run and disappears with them: there are no
named namespaces, and no mounts that other processes see.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.paths import ROOT

_NEEDS = {"ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux", "ssh": "openssh-client"}
_SSHD = "/usr/sbin/sshd"
_START_S = 60.0


def lacking() -> str | None:
    """Return why hosts cannot be created here; None if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [package for program, package in _NEEDS.items() if shutil.which(program) is None]
    missing += [] if Path(_SSHD).exists() else ["openssh-server"]
    if missing:
        return f"hosts need Debian's {' and '.join(missing)}"
    done = subprocess.run(["unshare", "-n", "-m", "-p", "-u", "--fork", "true"], capture_output=True, check=False)
    return None if done.returncode == 0 else "network namespaces cannot be created here"


def _run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(map(str, command))}: {done.stderr}"
    return done.stdout


class Namespace:
    """Processes in separate namespaces, which end with the process of this object.

    Args:
        script: Shell script of the first process.
        kinds: Options of `unshare`.
        log: File for its output.
    """

    def __init__(self, script: str, kinds: list[str], log: Path) -> None:
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--fork", "--kill-child", *kinds, "sh", "-c", script]
        with log.open("ab") as file:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        self.pid = self._wait_for_first()

    def _wait_for_first(self) -> int:
        """Return the first process inside once it runs the script, so that the namespaces exist."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            for child in psutil.Process(self._process.pid).children():
                if child.name() == "sh":
                    return int(child.pid)
            time.sleep(0.02)
        raise AssertionError("the namespaces were not created in time")

    def run(self, *command: object) -> str:
        """Run a command in its network."""
        return _run("nsenter", "-t", self.pid, "-n", *command)

    def start(self, *command: object) -> str:
        """Run a command as a process of the host."""
        return _run("nsenter", "-t", self.pid, "-n", "-m", "-p", "-u", *command)

    def end(self) -> None:
        """Kill all processes inside."""
        self._process.kill()
        self._process.wait()


@dataclass
class Host:
    """One host.

    Args:
        name: The name.
        address: The IPv4 address.
        directory: Directory of its files as this machine sees them: `home` is its FARANDOLE_HOME, `tmp`, `etc`.
        inside: The namespaces.
    """

    name: str
    address: str
    directory: Path
    inside: Namespace

    def processes(self, word: str) -> list[psutil.Process]:
        """Return its processes with a word in their command line."""
        inode = os.stat(f"/proc/{self.inside.pid}/ns/pid").st_ino
        found = []
        for process in psutil.process_iter():
            try:
                is_inside = os.stat(f"/proc/{process.pid}/ns/pid").st_ino == inode
                if is_inside and process.status() != psutil.STATUS_ZOMBIE and word in " ".join(process.cmdline()):
                    found.append(process)
            except (OSError, psutil.Error):
                continue  # the process has ended
        return found


@dataclass
class Network:
    """Hosts behind one switch.

    Args:
        directory: Directory of keys, configuration and the files of the hosts.
        shared: A directory that all hosts see.
        count: Number of hosts.
    """

    directory: Path
    shared: Path
    count: int = 3
    hosts: dict[str, Host] = field(default_factory=dict, init=False)

    def __enter__(self) -> Network:
        self._prefix = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
        self.address = f"{self._prefix}.254"
        self._opened: list[Namespace] = []
        try:
            self._make_keys()
            self._make_switch()
            for number in range(1, self.count + 1):
                self._make_host(f"node{number}", number)
            self._write_config()
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for namespace in reversed(self._opened):
            namespace.end()

    @property
    def ssh(self) -> dict[str, Any]:
        """Settings for `backend.hosts` of a job file."""
        return {"config_file": str(self.directory / "config"), "identity_file": str(self.directory / "key")}

    def cut(self, name: str) -> None:
        """Unplug a host from the network."""
        self._switch.run("ip", "link", "set", f"to-{name}", "down")

    def plug_in(self, name: str) -> None:
        """Connect a host to the network again."""
        self._switch.run("ip", "link", "set", f"to-{name}", "up")

    def _make_keys(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in ("key", "stranger"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", self.directory / name)

    def _make_switch(self) -> None:
        self._switch = self._open(
            "sleep infinity & wait", ["--net", "--pid"]
        )  # the other processes die with the first one
        uplink = f"fd{os.getpid() % 1_000_000}"
        _run("ip", "link", "add", uplink, "type", "veth", "peer", "name", "uplink", "netns", self._switch.pid)
        _run("ip", "address", "add", f"{self.address}/24", "dev", uplink)
        _run("ip", "link", "set", uplink, "up")
        self._switch.run("ip", "link", "add", "bridge", "type", "bridge")
        self._switch.run("ip", "link", "set", "bridge", "up")
        self._plug("uplink")

    def _plug(self, port: str) -> None:
        self._switch.run("ip", "link", "set", port, "master", "bridge")
        self._switch.run("ip", "link", "set", port, "up")

    def _open(self, script: str, kinds: list[str]) -> Namespace:
        opened = Namespace(script, kinds, self.directory / "log")
        self._opened.append(opened)
        return opened

    def _make_host(self, name: str, number: int) -> None:
        directory, address = self.directory / name, f"{self._prefix}.{number}"
        for folder in ("home", "tmp", "root", "etc"):
            (directory / folder).mkdir(parents=True)
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", directory / "etc" / "host_key")
        (directory / "etc" / "authorized_keys").write_text((self.directory / "key.pub").read_text())
        (directory / "etc" / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")  # as in Debian
        (directory / "etc" / "sshd_config").write_text(_sshd_config(directory / "etc", directory / "home"))
        script = "\n".join(
            [
                "set -e",
                f"hostname {name}",
                *_mounts(directory, [self.shared, directory / "etc", directory / "home"]),
                f"while ! ip -4 address show dev eth0 2>/dev/null | grep -q {address}; do sleep 0.05; done",
                f"{_SSHD} -D -e -f {directory / 'etc' / 'sshd_config'} &",
                "while :; do wait; sleep 1; done",
            ]
        )
        inside = self._open(script, ["--net", "--mount", "--pid", "--uts", "--mount-proc"])
        self._switch.run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", inside.pid)
        self._plug(f"to-{name}")
        inside.run("ip", "link", "set", "lo", "up")
        inside.run("ip", "link", "set", "eth0", "up")
        inside.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        self.hosts[name] = Host(name, address, directory, inside)

    def _write_config(self) -> None:
        lines = [f"Host {host.name}\n  HostName {host.address}\n" for host in self.hosts.values()]
        lines += [f"Host *\n  UserKnownHostsFile {self.directory / 'known_hosts'}\n  User root\n"]
        (self.directory / "config").write_text("".join(lines))

    def _wait(self) -> None:
        """Wait until all SSH servers answer."""
        deadline = time.monotonic() + _START_S
        command: list[Any] = [
            "ssh",
            "-F",
            self.directory / "config",
            "-i",
            self.directory / "key",
            "-o",
            "BatchMode=yes",
        ]
        command += ["-o", "StrictHostKeyChecking=accept-new", "-o", "ConnectTimeout=5"]
        for name in self.hosts:
            while True:
                done = subprocess.run([*command, name, "true"], capture_output=True, text=True, check=False)
                if done.returncode == 0:
                    break
                log = (self.directory / "log").read_text()
                assert time.monotonic() < deadline, f"{name} does not answer: {done.stderr}\n{log}"
                time.sleep(0.1)


def _sshd_config(etc: Path, home: Path) -> str:
    return f"""
Port 22
HostKey {etc}/host_key
AuthorizedKeysFile {etc}/authorized_keys
PidFile none
StrictModes no
UsePAM no
UseDNS no
PermitRootLogin prohibit-password
PasswordAuthentication no
SetEnv FARANDOLE_HOME={home}
"""


def _mounts(directory: Path, visible: list[Path]) -> list[str]:
    """Return commands that give a host its own /tmp, /run and home of root, and hide all other files of the test.

    Python and this project stay visible if they are below one of these directories.
    """
    hidden = {Path("/tmp"): directory / "tmp", Path.home(): directory / "root"}
    if not directory.is_relative_to("/tmp"):
        hidden[directory.parents[1]] = directory / "other"
    needed = [*visible, ROOT, Path(sys.prefix), Path(sys.base_prefix)]
    commands = [
        "mount -t tmpfs none /run",
        "mkdir -p /run/sshd",
        f"mount --bind {directory / 'etc' / 'hosts'} /etc/hosts",
    ]
    for path, instead in hidden.items():
        for kept in dict.fromkeys(needed):
            if kept.is_relative_to(path):
                target = instead / kept.relative_to(path)
                commands += [f"mkdir -p {target}", f"mount --rbind {kept} {target}"]
    # The directories from which others are mounted are hidden last.
    for path, instead in sorted(hidden.items(), key=lambda entry: directory.is_relative_to(entry[0])):
        commands += [f"mkdir -p {instead}", f"mount --rbind {instead} {path}"]
    return commands


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Create three hosts, `node1` to `node3`, and a directory that all of them and this machine see."""
    reason = lacking()
    if reason is not None:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("network")
    shared = tmp_path_factory.mktemp("shared")
    with Network(directory, shared) as made:
        yield made
