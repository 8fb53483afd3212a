"""Worker on another host as the launcher sees it: the SSH process that connects to the host's agent."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from farandole.events import Event
from farandole.launch.agent.messages import AgentAlive, AgentMessage, Refused, decode
from farandole.process.messages import (
    Exited,
    Failed,
    MessageError,
    WorkerMessage,
    decode_message,
    format_message,
    parse_line,
)

_PING_S = 1.0
_RELEASE_S = 2.0
"""How long SSH may take to exit after its worker was killed; with a host that is cut off it never does."""
_MAX_ERROR_LINES = 20
_VARIABLE = re.compile(r"^[A-Za-z_]\w*=")


def parse_worker_command(command: str) -> tuple[dict[str, str], list[str]]:
    """Return variables and program of `env NAME=VALUE... PROGRAM...`, which Horovod's launcher quoted for a shell."""
    parts = shlex.split(command)
    assert parts[0] == "env", f"not a command of Horovod's launcher: {parts[0]}"
    count = next(number for number, part in enumerate(parts[1:]) if not _VARIABLE.match(part))
    pairs = (part.partition("=") for part in parts[1 : count + 1])
    return {name: value for name, _, value in pairs}, parts[count + 1 :]


@dataclass
class RemoteWorker:
    """One worker on another host, started through the host's agent.

    Args:
        host: Name of the host.
        command: The command that starts the agent.
        request: The request to the agent.
        limit_s: How long the host may be silent, once it has sent something.
        forward: Receives each line of output.
        send: Receives the launcher's own messages.
    """

    host: str
    command: list[str]
    request: dict[str, Any]
    limit_s: float
    forward: Callable[[bytes], None]
    send: Callable[[WorkerMessage], None]
    _commands: list[str] = field(default_factory=list, init=False)
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False)
    _has_ended: bool = field(default=False, init=False)
    _received_s: float | None = field(default=None, init=False)
    _exit: Exited | None = field(default=None, init=False)
    _refusal: str | None = field(default=None, init=False)
    _lost: str | None = field(default=None, init=False)
    _errors: list[str] = field(default_factory=list, init=False)

    def run(self) -> int:
        """Start the agent with the worker, wait for both to end, and return the worker's exit code as shells do."""
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        threads = [
            threading.Thread(target=self._write_commands, daemon=True),
            threading.Thread(target=self._monitor, daemon=True),
            threading.Thread(target=self._read_output, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True),
        ]
        for thread in threads:
            thread.start()
        code = self._process.wait()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()
        for thread in threads[2:]:
            thread.join(_RELEASE_S)
        if self._exit is None:
            reason = self._refusal or self._lost or self._last_error(code)
            self._exit = Exited(self.request["rank"], time.time(), host=self.host, lost=reason)
            self.send(self._exit)
        if self._exit.signal is not None:
            return 128 + self._exit.signal
        return 255 if self._exit.code is None else self._exit.code

    def send_command(self, command: str) -> None:
        """Send a command to the agent; `kill` also ends the connection if the host does not."""
        with self._changed:
            self._commands.append(command)
            self._changed.notify_all()
        if command == "kill":
            threading.Thread(target=self._release, daemon=True).start()

    def _write_commands(self) -> None:
        """Write the request, then commands, and a ping where there are none."""
        assert self._process.stdin is not None
        pipe = self._process.stdin
        try:
            pipe.write(json.dumps(self.request).encode() + b"\n")
            pipe.flush()
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._has_ended or self._commands, _PING_S)
                    if self._has_ended:
                        return
                    lines, self._commands = self._commands or ["ping"], []
                pipe.write("".join(f"{line}\n" for line in lines).encode())
                pipe.flush()
        except BrokenPipeError:
            return  # SSH has ended, which `run` notices

    def _read_output(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            self._received_s = time.monotonic()
            output, data = parse_line(line.decode(errors="replace"))
            # Which worker failed first is decided by one clock, the launcher's.
            match _decode(data):
                case AgentAlive():
                    pass
                case Refused(message):
                    self._refusal = message
                case Exited() as end:
                    self._exit = dataclasses.replace(end, host=self.host, time_s=time.time())
                    self.send(self._exit)
                case Failed() as failed:
                    self.forward((output + format_message(dataclasses.replace(failed, time_s=time.time()))).encode())
                case _:
                    self.forward(line if line.endswith(b"\n") else line + b"\n")

    def _read_errors(self, pipe: IO[bytes]) -> None:
        """Keep the messages of SSH, or of an agent that fails; the worker's own output arrives on standard output."""
        for line in pipe:
            text = line.decode(errors="replace").rstrip()
            if not text.startswith("Warning: Permanently added"):
                self._errors = [*self._errors, text][-_MAX_ERROR_LINES:]
            self.forward(f"{self.host}: {text}\n".encode())

    def _monitor(self) -> None:
        """End the connection to a host that has been silent for too long."""
        while not self._has_ended:
            time.sleep(_PING_S / 4)
            if self._received_s is not None and time.monotonic() - self._received_s > self.limit_s:
                self._lost = f"it was silent for {self.limit_s:.1f} s (nine tenths of resources.heartbeat_timeout_s)"
                self._process.kill()
                return

    def _release(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended, _RELEASE_S)
        if not self._has_ended:
            self._process.kill()

    def _last_error(self, code: int) -> str:
        lines = [text for text in self._errors if text]
        return lines[-1] if lines else f"the SSH connection ended with exit code {code}"


def _decode(data: dict[str, Any] | None) -> AgentMessage | WorkerMessage | Event | None:
    """Return the message of an agent or of its worker; None if it is neither."""
    if data is None:
        return None
    for decoder in (decode, decode_message):
        with suppress(MessageError):
            return decoder(data)
    return None
