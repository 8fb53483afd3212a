"""Other machines by SSH: the command that reaches one, a question to its agent, and why there was no answer."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import Any

from farandole.process.messages import parse_line
from farandole.spec import Ssh

_ANSWER_S = 60.0
"""How long an agent may take to answer: it imports pyarrow from a cold disk."""
_AGENT = "farandole.launch.agent"
_KNOWN_HOSTS = {"accept-new": "accept-new", "strict": "yes", "off": "no"}


class HostUnavailableError(Exception):
    """Why a host cannot be used, and what mends it, in one line without the host's name."""


def ssh_command(ssh: Ssh, host: str, command: str) -> list[str]:
    """The command that runs a command on a host.

    Args:
        ssh: How hosts are reached.
        host: The host's name.
        command: For the shell there.
    """
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": str(ssh.connect_timeout_s),
        "StrictHostKeyChecking": _KNOWN_HOSTS[ssh.known_hosts],
        # A connection that others share ends with theirs, and hangs where theirs hangs.
        "ControlMaster": "no",
        "ControlPath": "none",
    }
    if ssh.known_hosts == "off":
        options |= {"UserKnownHostsFile": "/dev/null", "LogLevel": "ERROR"}
    if ssh.known_hosts_file is not None:
        options["UserKnownHostsFile"] = ssh.known_hosts_file
    if ssh.identity_file is not None:
        options["IdentitiesOnly"] = "yes"
    return [
        "ssh",
        "-T",
        *(("-F", ssh.config_file) if ssh.config_file is not None else ()),
        *(("-i", ssh.identity_file) if ssh.identity_file is not None else ()),
        *(("-p", str(ssh.port)) if ssh.port is not None else ()),
        *(("-l", ssh.user) if ssh.user is not None else ()),
        *(part for name, value in options.items() for part in ("-o", f"{name}={value}")),
        host,
        command,
    ]


def agent_command(ssh: Ssh, host: str) -> list[str]:
    """The command that starts the agent on a host; what it has to do comes on its standard input."""
    start = [remote_python(ssh), "-m", _AGENT]
    if ssh.home is not None:
        start = ["env", f"FARANDOLE_HOME={ssh.home}", *start]
    return ssh_command(ssh, host, "exec " + shlex.join(start))


def remote_python(ssh: Ssh) -> str:
    """The hosts' Python."""
    return ssh.python or sys.executable


def unreachable_reason(ssh: Ssh, host: str) -> str | None:
    """Why SSH does not reach a host; None: it does."""
    try:
        _run(ssh, host, ssh_command(ssh, host, "true"), b"", ssh.connect_timeout_s + 5.0)
    except HostUnavailableError as trouble:
        return str(trouble)
    return None


def ask_agent(
    ssh: Ssh, host: str, request: dict[str, Any], body: bytes = b"", *, timeout_s: float = _ANSWER_S
) -> dict[str, Any]:
    """Let a host's agent do one thing, and return what it answers.

    Args:
        ssh: How hosts are reached.
        host: The host.
        request: What to do: `do`, and what that needs.
        body: Bytes that follow the request.
        timeout_s: How long it may take.

    Raises:
        HostTrouble: There is no answer, or the agent says that it cannot.
    """
    output = _run(ssh, host, agent_command(ssh, host), json.dumps(request).encode() + b"\n" + body, timeout_s)
    for line in output.decode(errors="replace").splitlines():
        _, answer = parse_line(line)
        if answer is not None and answer["event"] == "answer":
            return answer
        if answer is not None and answer["event"] == "refused":
            raise HostUnavailableError(answer["message"])
    raise HostUnavailableError("its agent ended without an answer; install the same version of farandole there as here")


def _run(ssh: Ssh, host: str, command: list[str], sent: bytes, timeout_s: float) -> bytes:
    try:
        done = subprocess.run(command, input=sent, capture_output=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise HostUnavailableError(
            f"no answer within {timeout_s:.0f} s; look whether it is overloaded, or its disk hangs"
        ) from None
    except OSError as error:
        raise HostUnavailableError(
            f"ssh cannot be started ({error.strerror or error}); install openssh-client here"
        ) from error
    if done.returncode:
        raise HostUnavailableError(explain_failure(ssh, host, done.returncode, done.stderr.decode(errors="replace")))
    return done.stdout


def explain_failure(ssh: Ssh, host: str, code: int, said: str) -> str:
    """What is wrong, from how `ssh` ended, and what to do.

    Args:
        ssh: How hosts are reached.
        host: The host.
        code: The exit code of `ssh`: its own 255, or that of the command there.
        said: What came on standard error.
    """
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("Warning: Permanently")]
    last = lines[-1] if lines else f"exit code {code}"
    if code == 255:
        return f"{last}; {_ssh_remedy(ssh, host, said)}"
    python = remote_python(ssh)
    if "No module named" in said:
        return (
            f"{python} has no Farandole of this version ({last}); install it there, or name another Python in"
            " backend.hosts.python"
        )
    if code in (126, 127):
        return (
            f"there is no program {python} ({last}); install Farandole there in the same place, or name its Python in"
            " backend.hosts.python"
        )
    return f"{last} (exit code {code}); try `{shlex.join(['ssh', host, python, '-m', _AGENT])}`"


def _ssh_remedy(ssh: Ssh, host: str, said: str) -> str:
    port = f" -p {ssh.port}" if ssh.port is not None else ""
    if "Permission denied" in said:
        return (
            "its SSH server does not know the key; add the public key to ~/.ssh/authorized_keys there, or name the"
            " right one in backend.hosts.identity_file, or the right user in backend.hosts.user"
        )
    if "IDENTIFICATION HAS CHANGED" in said:
        return f"if it was made anew, `ssh-keygen -R {host}` forgets the old key"
    if "Host key verification failed" in said or "host key is known" in said:
        return f"its key is unknown: connect once by `ssh{port} {host}`, or set backend.hosts.known_hosts"
    if "Could not resolve" in said:
        return "mend the name in resources.hosts, or the resolving of names"
    return f"look whether it runs, its SSH server listens, and no firewall is between: try `ssh{port} {host}`"
