"""SSH client: commands that connect to a host, requests to its agent, and explanations of failures."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import Any

from farandole.launch.agent.messages import AgentMessage, Answer, Refused, decode
from farandole.process.messages import MessageError, parse_line
from farandole.spec import Ssh

_ANSWER_TIMEOUT_S = 60.0
"""An agent may have to import pyarrow from a cold disk."""
_AGENT = "farandole.launch.agent"
_HOST_KEY_CHECKING = {"accept-new": "accept-new", "strict": "yes", "off": "no"}


class HostUnavailableError(Exception):
    """A host cannot be used.

    Args:
        reason: Why, without the name of the host.
        remedy: What to do.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.reason, self.remedy = reason, remedy


def ssh_command(ssh: Ssh, host: str, command: str) -> list[str]:
    """Return the command that runs a shell command on a host.

    Args:
        ssh: How hosts are reached.
        host: Name of the host.
        command: The command for the remote shell.
    """
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": str(ssh.connect_timeout_s),
        "StrictHostKeyChecking": _HOST_KEY_CHECKING[ssh.known_hosts],
        # A shared connection ends, and hangs, together with the connection of another process.
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
    """Return the command that starts the agent on a host; the agent reads its request from standard input."""
    command = [remote_python(ssh), "-m", _AGENT]
    if ssh.home is not None:
        command = ["env", f"FARANDOLE_HOME={ssh.home}", *command]
    return ssh_command(ssh, host, "exec " + shlex.join(command))


def remote_python(ssh: Ssh) -> str:
    """Return the path of the Python interpreter on the hosts."""
    return ssh.python or sys.executable


def unreachable_reason(ssh: Ssh, host: str) -> str | None:
    """Return why SSH cannot reach a host; None if it can."""
    try:
        _run(ssh, host, ssh_command(ssh, host, "true"), b"", ssh.connect_timeout_s + 5.0)
    except HostUnavailableError as error:
        return str(error)
    return None


def ask_agent(
    ssh: Ssh, host: str, request: dict[str, Any], body: bytes = b"", *, timeout_s: float = _ANSWER_TIMEOUT_S
) -> dict[str, Any]:
    """Send one request to a host's agent and return the answer.

    Args:
        ssh: How hosts are reached.
        host: Name of the host.
        request: The request: `do`, and its arguments.
        body: Bytes that follow the request.
        timeout_s: How long the answer may take.

    Raises:
        HostUnavailableError: There is no answer, or the agent refuses.
    """
    output = _run(ssh, host, agent_command(ssh, host), json.dumps(request).encode() + b"\n" + body, timeout_s)
    for line in output.decode(errors="replace").splitlines():
        match parse_agent_line(line):
            case Answer(answer):
                return answer
            case Refused(message):
                raise HostUnavailableError(message)
    raise HostUnavailableError(
        "its agent ended without an answer", "install the version of farandole that is used here"
    )


def parse_agent_line(line: str) -> AgentMessage | None:
    """Return the agent's message in a line of output; None if the line is something else."""
    _, data = parse_line(line)
    try:
        return None if data is None else decode(data)
    except MessageError:
        return None


def _run(ssh: Ssh, host: str, command: list[str], stdin: bytes, timeout_s: float) -> bytes:
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        remedy = "check whether it is overloaded, or its disk hangs"
        raise HostUnavailableError(f"no answer within {timeout_s:.0f} s", remedy) from None
    except OSError as error:
        reason = f"ssh cannot be started ({error.strerror or error})"
        raise HostUnavailableError(reason, "install openssh-client on this machine") from error
    if done.returncode:
        raise explain_failure(ssh, host, done.returncode, done.stderr.decode(errors="replace"))
    return done.stdout


def explain_failure(ssh: Ssh, host: str, code: int, stderr: str) -> HostUnavailableError:
    """Return the error that explains an exit of `ssh`.

    Args:
        ssh: How hosts are reached.
        host: Name of the host.
        code: Exit code of `ssh`: its own 255, or that of the remote command.
        stderr: Standard error of `ssh`.
    """
    lines = [
        line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("Warning: Permanently")
    ]
    last = lines[-1] if lines else f"exit code {code}"
    if code == 255:
        return HostUnavailableError(last, _ssh_remedy(ssh, host, stderr))
    python = remote_python(ssh)
    if "No module named" in stderr:
        remedy = "install it there, or name another Python in backend.hosts.python"
        return HostUnavailableError(f"{python} does not have this version of Farandole ({last})", remedy)
    if code in (126, 127):
        remedy = "install Farandole there in the same location, or name its Python in backend.hosts.python"
        return HostUnavailableError(f"there is no program {python} ({last})", remedy)
    command = shlex.join(["ssh", host, python, "-m", _AGENT])
    return HostUnavailableError(f"{last} (exit code {code})", f"try `{command}`")


def _ssh_remedy(ssh: Ssh, host: str, stderr: str) -> str:
    port = f" -p {ssh.port}" if ssh.port is not None else ""
    if "Permission denied" in stderr:
        return (
            "its SSH server does not accept the key; add the public key to ~/.ssh/authorized_keys there, or name the"
            " right one in backend.hosts.identity_file, or the right user in backend.hosts.user"
        )
    if "IDENTIFICATION HAS CHANGED" in stderr:
        return f"if the host was reinstalled, `ssh-keygen -R {host}` forgets the old key"
    if "Host key verification failed" in stderr or "host key is known" in stderr:
        return f"its key is unknown: connect once by `ssh{port} {host}`, or set backend.hosts.known_hosts"
    if "Could not resolve" in stderr:
        return "correct the name in resources.hosts, or fix the name resolution"
    return f"check that it runs, that its SSH server listens, and that no firewall is between: try `ssh{port} {host}`"
