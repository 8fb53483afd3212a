"""A command as a whole process: seconds, processor seconds of it and of all that it started, and the parts of both."""

from __future__ import annotations

import json
import os
import queue
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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
        peak_rss_mb: The most memory of the process, or of the largest one that it waited for.
    """

    seconds: float
    cpu_s: float
    parts: dict[str, float]
    output: str
    peak_rss_mb: float = 0.0


def observe(
    command: Sequence[str],
    folder: Path,
    variables: Mapping[str, str],
    part_of: Callable[[str], str | None] = lambda line: None,
    timeout_s: float = _TIMEOUT_S,
) -> Observed:
    """Run a command to its end; whatever it has started ends with it.

    Args:
        command: The command.
        folder: Its working directory.
        variables: Variables beside those of this process.
        part_of: Returns the part that begins with a line of standard error; None: none does.
        timeout_s: Seconds after which it is killed.

    Raises:
        TrainingError: It failed, or did not end in time.
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
        start_new_session=True,  # so that its group holds what it starts, and nothing else
    )
    lines: queue.Queue[tuple[str, str, float]] = queue.Queue()
    readers = _start_readers(process, lines)
    is_late, used = _wait(process, timeout_s)
    ended_s = time.time()
    for reader in readers:
        reader.join(timeout=10)
    out, err, begun = _sort(lines, started_s, part_of)
    if is_late or process.returncode:
        last = (err or out or ["no output"])[-1].strip()
        ending = f"did not end within {timeout_s:g} s" if is_late else f"ended with {process.returncode}"
        raise TrainingError(f"{' '.join(command[:4])} {ending}: {last}", detail="".join(err))
    return Observed(
        ended_s - started_s,
        used.ru_utime + used.ru_stime,
        _durations(begun, started_s, ended_s),
        "".join(out),
        used.ru_maxrss / 1e3,  # of KiB
    )


def _start_readers(
    process: subprocess.Popen[str], lines: queue.Queue[tuple[str, str, float]]
) -> list[threading.Thread]:
    """Collect the lines of standard output and standard error, each with its time."""
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [
        threading.Thread(target=_read, args=(name, stream, lines), daemon=True)
        for name, stream in (("out", process.stdout), ("err", process.stderr))
    ]
    for reader in readers:
        reader.start()
    return readers


def _wait(process: subprocess.Popen[str], timeout_s: float) -> tuple[bool, resource.struct_rusage]:
    """Wait for a process and end its group; return whether it had to be killed, and the resources that it used."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        _kill_group(process)

    watchdog = threading.Timer(timeout_s, stop)
    watchdog.daemon = True
    watchdog.start()
    try:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        watchdog.cancel()
        # Processes that it leaves behind would disturb the next measurement, and hold its pipes open.
        _kill_group(process)
    return late.is_set() and process.returncode != 0, used


def _kill_group(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):  # all of it has ended
        os.killpg(process.pid, signal.SIGKILL)


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
