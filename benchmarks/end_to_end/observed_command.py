"""A command as a whole process: seconds, processor seconds of it and of all that it started, and the parts of both."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.end_to_end.stopwatch import MARK
from farandole.errors import TrainingError

_TIMEOUT_S = 1800.0
_STORE_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "FARANDOLE_HOME")


@dataclass(frozen=True)
class Observed:
    """A command that has succeeded.

    Args:
        seconds: From its start to its end.
        cpu_s: Processor seconds of the process and of the processes that it waited for.
        parts: Seconds of each part, in order.
        output: What it wrote to standard output, without the marks of its parts.
    """

    seconds: float
    cpu_s: float
    parts: dict[str, float]
    output: str


def observe(
    command: Sequence[str],
    folder: Path,
    variables: Mapping[str, str],
    part_of: Callable[[str], str | None] = lambda line: None,
) -> Observed:
    """Run a command to its end.

    Args:
        command: The command.
        folder: Its working directory.
        variables: Variables beside those of this process.
        part_of: Returns the part that begins with a line of standard error; None: none does.

    Raises:
        TrainingError: It failed.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _STORE_VARIABLES}
    started_s = time.time()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: queue.Queue[tuple[str, str, float]] = queue.Queue()
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [
        threading.Thread(target=_read, args=(name, stream, lines), daemon=True)
        for name, stream in (("out", process.stdout), ("err", process.stderr))
    ]
    for reader in readers:
        reader.start()
    watchdog = threading.Timer(_TIMEOUT_S, process.kill)
    watchdog.start()
    try:
        _, status, used = os.wait4(process.pid, 0)
    finally:
        watchdog.cancel()
        process.kill()
    ended_s = time.time()
    process.returncode = os.waitstatus_to_exitcode(status)
    for reader in readers:
        reader.join(timeout=10)
    out, err, begun = _sort(lines, started_s, part_of)
    if process.returncode:
        last = (err or out or ["no output"])[-1].strip()
        raise TrainingError(f"{' '.join(command[:4])} ended with {process.returncode}: {last}", detail="".join(err))
    return Observed(
        ended_s - started_s, used.ru_utime + used.ru_stime, _durations(begun, started_s, ended_s), "".join(out)
    )


def _read(name: str, stream: IO[str], lines: queue.Queue[tuple[str, str, float]]) -> None:
    with stream:
        for line in stream:
            lines.put((name, line, time.time()))


def _sort(
    lines: queue.Queue[tuple[str, str, float]], started_s: float, part_of: Callable[[str], str | None]
) -> tuple[list[str], list[str], list[tuple[str, float]]]:
    """Return standard output, standard error, and the beginnings of the parts."""
    out: list[str] = []
    err: list[str] = []
    begun = [("start of Python", started_s)]
    while not lines.empty():
        name, line, seen_s = lines.get()
        if name == "out" and line.startswith(MARK):
            part, time_s = json.loads(line.removeprefix(MARK))
            begun.append((part, time_s))
            continue
        (out if name == "out" else err).append(line)
        found = part_of(line) if name == "err" else None
        if found is not None and found not in dict(begun):
            begun.append((found, seen_s))
    return out, err, begun


def _durations(begun: list[tuple[str, float]], started_s: float, ended_s: float) -> dict[str, float]:
    ends = [time_s for _, time_s in begun[1:]] + [ended_s]
    durations: dict[str, float] = {}
    for (part, begin_s), end_s in zip(begun, ends, strict=True):
        durations[part] = round(durations.get(part, 0.0) + end_s - begin_s, 2)
    return durations


def last_document(output: str) -> dict[str, Any]:
    """Return the JSON document at the end of a command's output."""
    document: dict[str, Any] = json.loads(output[output.index("{") :])
    return document
