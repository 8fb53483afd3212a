"""System metrics of one node, by MLflow's own monitors, recorded under the node's name.

MLflow's thread for them asks the store before each sample and ends when it does not answer; this one only records.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

from farandole.spec import Tracking
from farandole.tracking.recorder import Recorder, open_recorder
from farandole.tracking.run_link import require_run_link
from farandole.tracking.store import resolve_store

_SAMPLING_S = 2.0
_PATIENCE_S = 2.0
_THIS_MACHINE = re.compile(r"^(localhost|127\..*|::1)?$")

LogMetrics = Callable[[dict[str, float], int], None]


def node_name() -> str:
    """What this node is called: as the user says, as the launcher calls it, or by its host name."""
    name = os.environ.get("MLFLOW_SYSTEM_METRICS_NODE_ID") or os.environ.get("HOROVOD_HOSTNAME", "")
    name = socket.gethostname() if _THIS_MACHINE.match(name) else name
    return re.sub(r"[^\w.-]", "_", name)


@contextmanager
def record_system_metrics(tracking: Tracking, directory: Path, recorder: Recorder | None) -> Iterator[None]:
    """Record this node's use of processor, memory, disk, network and graphics cards for the length of the block.

    Args:
        tracking: Where the job is recorded.
        directory: The job's directory; each node may have its own, with the job's record.
        recorder: The chief's recorder, on its node; None on others, which have spools of their own.

    Raises:
        TrainingFailed: This node has not got the job's record.
    """
    record = require_run_link(directory)
    if recorder is not None:
        with sample_node(recorder.log_points, record.started_ms):
            yield
        return
    with open_recorder(resolve_store(tracking), directory, record, name=node_name()) as own:
        with sample_node(own.log_points, record.started_ms):
            yield
        own.drain(min(_PATIENCE_S, tracking.wait_s))


@contextmanager
def sample_node(log: LogMetrics, started_ms: int) -> Iterator[None]:
    """Sample this node for the length of the block.

    Args:
        log: Records metrics at a step.
        started_ms: When the job began, in milliseconds since 1970. A step is a second since then, so the steps of all
            nodes and attempts agree.
    """
    interval_s = float(os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL") or _SAMPLING_S)
    stopped = threading.Event()
    monitors = _monitors()
    prefix = f"system/{node_name()}/"

    def sample() -> None:
        while True:
            for monitor in monitors:
                monitor.collect_metrics()
            if stopped.wait(interval_s):
                return
            values: dict[str, float] = {}
            for monitor in monitors:
                values |= monitor.aggregate_metrics()
                monitor.clear_metrics()
            log({prefix + name: value for name, value in values.items()}, int(time.time() - started_ms / 1000))

    thread = threading.Thread(target=sample, name="node-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _monitors() -> list[Any]:
    """Those that work here: a node may have graphics cards of either make, or none."""
    anywhere: list[Any] = [CPUMonitor, DiskMonitor, NetworkMonitor]
    cards: list[Any] = [GPUMonitor, ROCMMonitor]
    monitors = [kind() for kind in anywhere]
    for kind in cards:
        try:
            monitors.append(kind())
            break
        except Exception as problem:  # noqa: BLE001 - each maker's library says in its own way that there is no card
            logging.getLogger(__name__).debug("no %s: %s", kind.__name__, problem)
    return monitors
