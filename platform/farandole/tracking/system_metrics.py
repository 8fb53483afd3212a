"""System metrics of one node, sampled by MLflow's monitors and recorded under the node's name.

MLflow's own thread queries the store before each sample and ends when it does not answer; the thread here only records.
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
_DRAIN_TIMEOUT_S = 2.0
_LOCALHOST = re.compile(r"^(localhost|127\..*|::1)?$")

LogMetrics = Callable[[dict[str, float], int], None]


def node_name() -> str:
    """Return the name of this node: the one that the user or else the launcher gives it, or its host name."""
    name = os.environ.get("MLFLOW_SYSTEM_METRICS_NODE_ID") or os.environ.get("HOROVOD_HOSTNAME", "")
    name = socket.gethostname() if _LOCALHOST.match(name) else name
    return re.sub(r"[^\w.-]", "_", name)


@contextmanager
def record_system_metrics(tracking: Tracking, directory: Path, recorder: Recorder | None) -> Iterator[None]:
    """Record the CPU, memory, disk, network and GPU usage of this node for the length of the block.

    Args:
        tracking: The tracking section of the job.
        directory: The job's directory on this node, with a copy of the link to the MLflow run.
        recorder: The recorder of rank zero, on its node; None on other nodes, each of which uses a separate spool.

    Raises:
        TrainingError: The link to the MLflow run is missing on this node.
    """
    link = require_run_link(directory)
    if recorder is not None:
        with sample_node(recorder.log_points, link.started_ms):
            yield
        return
    with open_recorder(resolve_store(tracking), directory, link, name=node_name()) as node_recorder:
        with sample_node(node_recorder.log_points, link.started_ms):
            yield
        node_recorder.drain(min(_DRAIN_TIMEOUT_S, tracking.wait_s))


@contextmanager
def sample_node(log: LogMetrics, started_ms: int) -> Iterator[None]:
    """Sample this node for the length of the block.

    Args:
        log: Records metrics of a step.
        started_ms: Start of the job, in milliseconds since 1970. The step is the number of seconds since then, so the
            steps of all nodes and attempts agree.
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
    """Create the monitors that work on this node, which may have NVIDIA or AMD GPUs, or none."""
    always: list[Any] = [CPUMonitor, DiskMonitor, NetworkMonitor]
    monitors = [monitor() for monitor in always]
    gpu_monitors: list[Any] = [GPUMonitor, ROCMMonitor]
    for monitor in gpu_monitors:
        try:
            monitors.append(monitor())
            break
        except Exception as error:  # noqa: BLE001 - each vendor's library reports a missing GPU by its own error
            logging.getLogger(__name__).debug("%s is unavailable: %s", monitor.__name__, error)
    return monitors
