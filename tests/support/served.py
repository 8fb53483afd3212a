"""Small bundles of real networks, and real services that answer with them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from farandole.bundle import Bundle, BundleContents, open_bundle, write_bundle
from farandole.preprocess import Observations, Preprocessing, RawForm, learn
from farandole.spec import Data

ROW: dict[str, Any] = {"distance": 1400.0, "seats": 150, "carrier": "UA", "delayed": True}
OTHER_ROW: dict[str, Any] = {"distance": 212.5, "seats": None, "carrier": "B6", "delayed": False}
_FEATURES = {
    "distance": {"kind": "numeric", "impute": None},
    "seats": {"kind": "numeric", "indicator": True},
    "carrier": {"kind": "categorical"},
    "delayed": {"kind": "numeric"},
}
_TYPES = {"distance": "double", "seats": "int", "carrier": "string", "delayed": "boolean"}
_START_S = 240.0


def training_rows() -> pa.RecordBatch:
    """Return the rows on which the preprocessing of every small bundle is fitted."""
    number = np.arange(200)
    seats = [None if each % 10 == 0 else int(50 + each) for each in number]
    return pa.record_batch(
        {
            "distance": pa.array(number * 12.5),
            "seats": pa.array(seats, pa.int32()),
            "carrier": pa.array([("AA", "B6", "UA")[each % 3] for each in number]),
            "delayed": pa.array(number % 2 == 0),
            "late": pa.array(number % 3 == 0),
        }
    )


def fitted_preprocessing() -> Preprocessing:
    """Return the preprocessing of every small bundle."""
    declared = Data.model_validate(
        {
            "sources": {"flights": {"path": "/flights.csv"}},
            "features": _FEATURES,
            "label": {"column": "late", "kind": "binary"},
        }
    )
    preprocessing = replace(Preprocessing.from_spec(declared), types=_TYPES)
    while not preprocessing.fitted:
        observations = Observations()
        observations.add(preprocessing, training_rows())
        preprocessing = learn(preprocessing, observations)
    return preprocessing


def statistics() -> dict[str, Any]:
    """Return the statistics of the training rows, as a bundle has them."""
    return {
        "columns": {
            "distance": {"kind": "number", "edges": [0, 625, 1250, 1875, 2500], "shares": [0.25] * 4},
            "carrier": {"kind": "category", "values": ["AA", "B6", "UA"], "shares": [0.335, 0.335, 0.33]},
        },
        "predictions": {"probability": {"kind": "number", "edges": [0, 0.25, 0.5, 0.75, 1], "shares": [0.25] * 4}},
    }


def make_bundle(
    directory: Path, *, seed: int = 0, name: str = "flights", documents: dict[str, Any] | None = None
) -> Bundle:
    """Write and open the bundle of a network with random weights.

    Args:
        directory: Its directory.
        seed: Determines the weights.
        name: The model's name.
        documents: More files of the bundle.
    """
    import torch

    from farandole.models.mlp import build

    torch.manual_seed(seed)
    preprocessing = fitted_preprocessing()
    options: dict[str, Any] = {"hidden": [8]}
    contents = BundleContents(
        name=name,
        builder="farandole.models.mlp:build",
        options=options,
        preprocessing=preprocessing,
        row_forms={column: RawForm() for column in preprocessing.columns},
        documents={"statistics.json": statistics(), **(documents or {})},
    )
    assert write_bundle(directory, build(preprocessing.schema, **options), contents) is None
    return open_bundle(directory)


class RunningService:
    """A service in a process of its own, and what it has logged.

    Args:
        process: The supervisor.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self.other_lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.other_lines.append(line.decode())

    @property
    def url(self) -> str:
        """The address, once all workers answer."""
        return str(self.wait_for("serving")["url"])

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of one kind so far."""
        return [line for line in list(self.lines) if line["event"] == event]

    def wait_for(self, event: str, count: int = 1) -> dict[str, Any]:
        """Return the log line of a kind with this number, once it is there."""
        self.wait_until(lambda: len(self.events(event)) >= count, event)
        return self.events(event)[count - 1]

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Return once a condition holds; fail if the service ends before."""
        deadline_s = time.monotonic() + _START_S
        while not condition():
            ended = self.process.poll() is not None
            assert not ended or condition(), f"{what}: the service ended\n{self.lines}\n{''.join(self.other_lines)}"
            assert time.monotonic() < deadline_s, f"{what}: not in time\n{self.lines}\n{''.join(self.other_lines)}"
            time.sleep(0.02)

    def worker_pids(self) -> list[int]:
        """Return the process ids of the workers that have answered, newest last."""
        return [line["worker_pid"] for line in self.events("worker_ready")]

    def end(self) -> int:
        """Send SIGTERM, and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=120)
        self._reader.join(timeout=60)
        return code


@contextmanager
def running_service(*arguments: str, environment: dict[str, str] | None = None) -> Iterator[RunningService]:
    """Run `farandole serve` on a port that the kernel chooses, until the block ends.

    A busy machine may take long to answer, unless the arguments give another deadline.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "farandole", "serve", "--port", "0", "--deadline", "60", *arguments],
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    try:
        yield RunningService(process)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=120)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def make_query_bundle(directory: Path) -> Bundle:
    """Write and open a bundle that carries a query: miles become kilometres, and cancelled flights are excluded."""
    from farandole.bundle.manifest import write_manifest
    from farandole.serving.query.translate import translate_tables
    from farandole.spec import Job

    query = "SELECT miles * 1.609344D AS distance, seats, carrier, delayed FROM flights WHERE NOT cancelled"
    job = Job.model_validate(
        {
            "name": "flights",
            "data": {"sources": {"flights": {"path": "/flights.csv"}}, "query": query, "features": _FEATURES},
        }
    )
    types = {"miles": "double", "seats": "int", "carrier": "string", "delayed": "boolean", "cancelled": "boolean"}
    bundle = make_bundle(directory)
    translate_tables(job, None, {"flights": types}, "flights", {}).query.save(directory)
    write_manifest(directory, bundle.name)
    return open_bundle(directory)
