"""Measurement of one system in a separate process: `python -m benchmarks.loader.process REQUEST`.

Request and result are JSON documents. It only needs torch, so that it also runs in the interpreter of the peers.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

_SAMPLE_EVERY_ROWS = 2**18
"""Reading the kernel's counters takes as long as gathering two batches; every system pays for it equally."""


class Reader(Protocol):
    """System that reads batches of a case."""

    def epoch(self, epoch: int) -> Iterator[int]:
        """Yield the number of rows of each batch of an epoch, once the batch is in memory."""

    def resumed(self, epoch: int) -> Iterator[int] | None:
        """Return the same from the middle of the epoch on; None if the system cannot resume."""


Open = Callable[[Path, int], Reader]
"""Opens the data in a directory, for batches of the given number of rows."""
Prepare = Callable[[Path, Path], None]
"""Converts plain arrays (first path) to the format that a system reads (second path)."""


@dataclass(frozen=True)
class System:
    """One system to measure.

    Args:
        open: Opens the data.
        package: The package whose version is reported.
        about: Description of the way that is measured.
        prepare: Converts the data to the system's own format; None: it reads the dataset.
    """

    open: Open
    package: str
    about: str
    prepare: Prepare | None = None


def measure(open_reader: Open, directory: Path, batch_rows: int, epochs: int) -> dict[str, Any]:
    """Read epochs and time them.

    Returns:
        Rows of an epoch, rows per second of the first and of the best epoch, milliseconds to open, to the first batch
        and to resume in the middle, and peaks of memory in MB: resident memory (mapped files count), the same beyond
        that of the process with torch imported, and private memory beyond that.
    """
    import torch

    torch.set_num_threads(1)
    base = _status_mb()
    memory = _Memory()
    start = time.perf_counter()
    reader = open_reader(directory, batch_rows)
    open_ms = (time.perf_counter() - start) * 1e3
    first_ms, rates, rows = 0.0, [], 0
    for epoch in range(epochs):
        start = time.perf_counter()
        rows = sampled_at = 0
        for count in reader.epoch(epoch):
            if not epoch and not rows:
                first_ms = (time.perf_counter() - start) * 1e3
            rows += count
            if rows - sampled_at >= _SAMPLE_EVERY_ROWS:
                sampled_at = rows
                memory.sample()
        rates.append(rows / (time.perf_counter() - start))
        memory.sample()
    start = time.perf_counter()
    resumed = reader.resumed(epochs)
    if resumed is not None:
        next(resumed)
    resume_ms = (time.perf_counter() - start) * 1e3
    memory.sample()
    return {
        "rows": rows,
        "rows_per_s": max(rates),
        "first_epoch_rows_per_s": rates[0],
        "open_ms": open_ms,
        "first_batch_ms": first_ms,
        "resume_ms": resume_ms if resumed is not None else None,
        "peak_rss_mb": memory.resident_mb,
        "beyond_torch_mb": memory.resident_mb - base["VmRSS"],
        "own_beyond_torch_mb": memory.own_mb - base["RssAnon"],
    }


class _Memory:
    """Peaks of sampled memory."""

    def __init__(self) -> None:
        self.own_mb = 0.0
        self.resident_mb = 0.0

    def sample(self) -> None:
        status = _status_mb()
        self.own_mb = max(self.own_mb, status["RssAnon"])
        self.resident_mb = max(self.resident_mb, status["VmHWM"])


def _status_mb() -> dict[str, float]:
    """Return the kernel's memory counters of this process, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    pairs = (line.split(":", 1) for line in lines)
    return {name: int(value.split()[0]) * 1024 / 1e6 for name, value in pairs if value.endswith("kB")}


def main() -> None:
    """Execute the request; print its result, and nothing else, on standard output."""
    request = json.loads(sys.argv[1])
    directory = Path(request["directory"])
    # Output of libraries is for people, so it goes to standard error.
    result_file = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with contextlib.redirect_stdout(sys.stderr):
        systems = importlib.import_module(f"benchmarks.loader.{request['module']}").SYSTEMS
        system = systems[request["system"]]
        if request["step"] == "prepare":
            if system.prepare is not None:
                system.prepare(Path(request["arrays"]), directory)
            result: dict[str, Any] = {}
        else:
            result = measure(system.open, directory, request["batch_rows"], request["epochs"])
        result |= {"version": version(system.package), "about": system.about}
    json.dump(result, result_file)
    result_file.flush()
    # Threads of some libraries would keep the process alive.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
