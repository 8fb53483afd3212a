"""A worker on another host, as the launcher sees it: the SSH process that leads to the host's agent."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from farandole.process.messages import MESSAGE_PREFIX, parse_line

_PING_S = 1.0
_LET_GO_S = 2.0
"""How long SSH may take to end after its worker was killed; a host that is cut off never lets it."""
_LAST_WORDS = 20
_VARIABLE = re.compile(r"^[A-Za-z_]\w*=")


def parse_worker_command(command: str) -> tuple[dict[str, str], list[str]]:
    """Variables and program of `env NAME=VALUE… PROGRAM…`, which Horovod's launcher has quoted for a shell."""
    parts = shlex.split(command)
    assert parts[0] == "env", f"not what Horovod's launcher makes: {parts[0]}"
    count = next(number for number, part in enumerate(parts[1:]) if not _VARIABLE.match(part))
    pairs = (part.partition("=") for part in parts[1 : count + 1])
    return {name: value for name, _, value in pairs}, parts[count + 1 :]


@dataclass
class RemoteWorker:
    """Starts an agent with one worker, and is there until both have ended.

    Args:
        host: The host's name.
        command: Leads to the agent.
        request: What the agent has to do.
        limit_s: How long the host may give no sign, once it has given one.
        forward: Takes each line that came, but for signs.
        tell: Takes messages of the launcher's own.
    """

    host: str
    command: list[str]
    request: dict[str, Any]
    limit_s: float
    forward: Callable[[bytes], None]
    tell: Callable[[dict[str, Any]], None]
    _orders: list[str] = field(default_factory=list, init=False)
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False)
    _ended: bool = field(default=False, init=False)
    _heard_s: float | None = field(default=None, init=False)
    _exit: dict[str, Any] | None = field(default=None, init=False)
    _refused: str | None = field(default=None, init=False)
    _lost: str | None = field(default=None, init=False)
    _words: list[str] = field(default_factory=list, init=False)

    def run(self) -> int:
        """Start it, and return when it has ended: its exit code, as shells have it."""
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
            threading.Thread(target=self._speak, daemon=True),
            threading.Thread(target=self._watch, daemon=True),
            threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._overhear, args=(self._process.stderr,), daemon=True),
        ]
        for thread in threads:
            thread.start()
        code = self._process.wait()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in threads[2:]:
            thread.join(_LET_GO_S)
        if self._exit is None:
            self._exit = {"lost": self._refused or self._lost or self._last_words(code)}
            self.tell(
                {
                    "event": "exited",
                    "rank": self.request["rank"],
                    "time_s": time.time(),
                    "host": self.host,
                    **self._exit,
                }
            )
        code = self._exit.get("code", 255)
        return 128 + self._exit["signal"] if "signal" in self._exit else int(code)

    def order(self, text: str) -> None:
        """Give the agent an order; `kill` also ends the connection, should the host not do so."""
        with self._changed:
            self._orders.append(text)
            self._changed.notify_all()
        if text == "kill":
            threading.Thread(target=self._let_go, daemon=True).start()

    def _speak(self) -> None:
        """Say what to do, pass orders on, and ping."""
        assert self._process.stdin is not None
        pipe = self._process.stdin
        try:
            pipe.write(json.dumps(self.request).encode() + b"\n")
            pipe.flush()
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._ended or self._orders, _PING_S)
                    if self._ended:
                        return
                    lines, self._orders = self._orders or ["ping"], []
                pipe.write("".join(f"{line}\n" for line in lines).encode())
                pipe.flush()
        except BrokenPipeError:
            return  # SSH has ended, which `run` sees

    def _listen(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            self._heard_s = time.monotonic()
            output, data = parse_line(line.decode(errors="replace"))
            event = None if data is None else data["event"]
            if event == "sign":
                continue
            if data is not None and event == "refused":
                self._refused = data["message"]
            elif data is not None and event == "exited":
                self._exit = data
                self.tell({**data, "host": self.host, "time_s": time.time()})
            elif data is not None and event == "failed":
                # Who was first is told by one clock, the launcher's.
                text = f"{output}{MESSAGE_PREFIX}{json.dumps({**data, 'time_s': time.time()})}\n"
                self.forward(text.encode())
            else:
                self.forward(line if line.endswith(b"\n") else line + b"\n")

    def _overhear(self, pipe: IO[bytes]) -> None:
        """What SSH itself says, or the agent where it fails; the worker's own words come on standard output."""
        for line in pipe:
            text = line.decode(errors="replace").rstrip()
            if not text.startswith("Warning: Permanently added"):
                self._words = [*self._words, text][-_LAST_WORDS:]
            self.forward(f"{self.host}: {text}\n".encode())

    def _watch(self) -> None:
        """Give a host up that has not been heard for too long."""
        while not self._ended:
            time.sleep(_PING_S / 4)
            if self._heard_s is not None and time.monotonic() - self._heard_s > self.limit_s:
                self._lost = f"it gave no sign for {self.limit_s:.1f} s (nine tenths of resources.heartbeat_timeout_s)"
                self._process.kill()
                return

    def _let_go(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended, _LET_GO_S)
        if not self._ended:
            self._process.kill()

    def _last_words(self, code: int) -> str:
        said = [text for text in self._words if text]
        return said[-1] if said else f"the SSH connection ended with exit code {code}"
