"""Load from `wrk`: each connection sends a request as soon as it has the answer to the last one."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from farandole.errors import TrainingError, UnavailableError

_TIMEOUT_S = 10
_SCRIPT = """\
local requests, next_request, threads = {}, 0, {}

function setup(thread)
  thread:set("offset", #threads * 37)
  table.insert(threads, thread)
end

function init(args)
  local headers = {["Content-Type"] = "application/json"}
  for line in io.lines(args[1]) do
    local name, value = line:match("^([^:]+): (.*)$")
    headers[name] = value
  end
  for body in io.lines(args[2]) do
    table.insert(requests, wrk.format("POST", nil, headers, body))
  end
  next_request = offset % #requests
end

function request()
  next_request = next_request % #requests + 1
  return requests[next_request]
end

function done(summary, latency, all)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %f, "refused": %d, "broken": %d, "p50_ms": %f, "p95_ms": %f, "p99_ms": %f}\\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True)
class Load:
    """The answers to one load.

    Args:
        requests: Number of answers.
        seconds: Duration of the load.
        refused: Answers with a status of 400 or more.
        broken: Requests without an answer.
        p50_ms: Median latency.
        p95_ms: 95th percentile of the latency.
        p99_ms: 99th percentile of the latency.
    """

    requests: int
    seconds: float
    refused: int
    broken: int
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @property
    def requests_per_s(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


def check_wrk() -> None:
    """Check that `wrk` is installed.

    Raises:
        UnavailableError: It is not.
    """
    if shutil.which("wrk") is None:
        raise UnavailableError("wrk: not installed; it makes the load: sudo apt-get install wrk")


def send_load(
    url: str, bodies: Sequence[bytes], headers: Mapping[str, str], clients: int, seconds: float, folder: Path
) -> Load:
    """Send requests for some time.

    Args:
        url: Where to.
        bodies: JSON bodies, which are sent in turn.
        headers: Headers of each request, such as a key; they stay out of the command line.
        clients: Number of connections.
        seconds: Duration.
        folder: A folder for the script and the bodies.

    Raises:
        TrainingError: `wrk` failed, or an answer was not one of success: its speed would mean nothing.
    """
    script, heads, requests = folder / "load.lua", folder / "headers.txt", folder / "bodies.txt"
    script.write_text(_SCRIPT)
    heads.touch(mode=0o600)
    heads.write_text("".join(f"{name}: {value}\n" for name, value in headers.items()))
    requests.write_bytes(b"".join(body + b"\n" for body in bodies))
    command = ["wrk", "--threads", "1", "--connections", str(clients), "--duration", f"{seconds:.0f}s"]
    command += ["--timeout", f"{_TIMEOUT_S}s", "--script", str(script), url, "--", str(heads), str(requests)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if ended.returncode:
        raise TrainingError(f"wrk: ended with {ended.returncode}: {ended.stderr.strip()[-300:]}")
    load = Load(**json.loads(ended.stdout.strip().splitlines()[-1]))
    if load.refused or load.broken or not load.requests:
        raise TrainingError(f"{url}: of {load.requests} requests {load.refused} were refused, {load.broken} broke off")
    return load
