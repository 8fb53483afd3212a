"""Metrics for Prometheus, of all workers together.

Counters and histograms live in files that `prometheus_client` maps into memory, some for each worker, and any worker
adds them up when it is asked; what a killed worker has counted stays. Drift is counted by `drift` in the same way.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from farandole.serving.service.drift import Bins, population_stability_index, read_counts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which prometheus_client learns of the workers' common directory, before its import."""
SUPERVISOR = "supervisor.json"
"""File of the counts that only the supervisor has, in the same directory."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 10_000)


@dataclass(frozen=True)
class Watched:
    """A model version whose drift is shown.

    Args:
        model: Its name.
        version: Its version.
        key: The key of its counts.
        bins: The bins of its raw columns.
        predictions: The bins of its predictions.
    """

    model: str
    version: str
    key: str
    bins: Sequence[Bins]
    predictions: Sequence[Bins]


class Metrics:
    """All metrics of a worker.

    Args:
        directory: The workers' common directory; None: this process is alone.
        watched: Returns the model versions whose drift is shown.
    """

    def __init__(self, directory: Path | None = None, watched: Callable[[], Iterable[Watched]] = tuple) -> None:
        self._directory, self._watched = directory, watched
        self._registry = CollectorRegistry()
        self._children: dict[tuple[Any, ...], Any] = {}
        self._requests = self._counter("requests", "Requests", "model", "version", "route", "status")
        self._errors = self._counter("errors", "Errors by kind", "kind")
        self._rows = self._counter("rows", "Rows that were predicted", "model", "version")
        self._shadow = self._counter("shadow_rows", "Rows of a shadow, by agreement", "model", "version", "agrees")
        self._reloads = self._counter("reloads", "Changes of the served models", "result")
        self._seconds = self._histogram("request_seconds", "Time to answer", _SECONDS, "route")
        self._batch_rows = self._histogram("batch_rows", "Rows of a batch", _ROWS, "model", "version")
        self._batch_seconds = self._histogram("batch_seconds", "Time to compute a batch", _SECONDS, "model", "version")
        self._queue = Gauge(
            "farandole_queue_rows",
            "Rows that wait",
            ["model", "version"],
            registry=self._registry,
            multiprocess_mode="livesum",
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"farandole_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"farandole_{name}", text, labels, registry=self._registry, buckets=buckets)

    def _child(self, metric: Any, *labels: str) -> Any:
        """Return the metric with these labels; looking it up in prometheus_client takes longer than counting."""
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def request(self, model: str, version: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._child(self._requests, model, version, route, str(status)).inc()
        self._child(self._seconds, route).observe(seconds)

    def error(self, kind: str) -> None:
        """Count an error."""
        self._child(self._errors, kind).inc()

    def batch(self, model: str, version: str, rows: int, seconds: float, queued_rows: int) -> None:
        """Count a batch."""
        self._child(self._rows, model, version).inc(rows)
        self._child(self._batch_rows, model, version).observe(rows)
        self._child(self._batch_seconds, model, version).observe(seconds)
        self._child(self._queue, model, version).set(queued_rows)

    def shadow(self, model: str, version: str, agreeing: int, rows: int) -> None:
        """Count the rows of a shadow, and how many of its predictions agree with those of the answer."""
        self._child(self._shadow, model, version, "true").inc(agreeing)
        self._child(self._shadow, model, version, "false").inc(rows - agreeing)

    def reload(self, result: str) -> None:
        """Count a change of the served models: `ok` or `failed`."""
        self._child(self._reloads, result).inc()

    def render(self) -> bytes:
        """Return the metrics of all workers, in Prometheus' text format."""
        registry = CollectorRegistry() if self._directory else self._registry
        if self._directory:
            MultiProcessCollector(registry, path=str(self._directory))  # type: ignore[no-untyped-call]
        text: bytes = generate_latest(registry)
        if self._directory:
            own = CollectorRegistry()
            own.register(_DirectoryCollector(self._directory, tuple(self._watched())))
            text += generate_latest(own)
        return text


class _DirectoryCollector(Collector):
    """Drift, and the counts of the supervisor."""

    def __init__(self, directory: Path, watched: Sequence[Watched]) -> None:
        self._directory, self._watched = directory, watched

    def collect(self) -> Iterator[Metric]:
        labels = ("model", "version")
        drift = GaugeMetricFamily(
            "farandole_feature_drift_psi",
            "Population stability index of a raw column in the last hour against the training data",
            labels=(*labels, "feature"),
        )
        moved = GaugeMetricFamily(
            "farandole_prediction_drift_psi", "The same index of the predictions", labels=(*labels, "output")
        )
        found = GaugeMetricFamily(
            "farandole_predictions",
            "Predictions of the last hour by class or interval",
            labels=(*labels, "output", "bin"),
        )
        for each in self._watched:
            counts = read_counts(self._directory, each.key, [*each.bins, *each.predictions])
            names = (each.model, each.version)
            for number, bins in enumerate([*each.bins, *each.predictions]):
                is_prediction = number >= len(each.bins)
                index = population_stability_index(counts[number], bins.shares)
                if index is not None:
                    (moved if is_prediction else drift).add_metric((*names, bins.name), index)
                if is_prediction:
                    for label, count in zip(bins.labels(), counts[number], strict=True):
                        found.add_metric((*names, bins.name, label), float(count))
        yield from (drift, moved, found)
        yield from self._supervisor()

    def _supervisor(self) -> Iterator[Metric]:
        try:
            counts = json.loads((self._directory / SUPERVISOR).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        yield GaugeMetricFamily("farandole_workers", "Workers that run", value=counts["workers"])
        yield GaugeMetricFamily("farandole_worker_restarts", "Workers that died and were replaced", counts["restarts"])


def forget_worker(directory: Path, pid: int) -> None:
    """Remove the gauges of a worker that has ended; its counts stay."""
    for path in directory.glob(f"gauge_live*_{pid}.db"):
        path.unlink(missing_ok=True)


def prepare_variables(directory: Path) -> dict[str, str]:
    """Return the environment variables of a worker, so that its metrics are in the common directory."""
    return {**os.environ, DIRECTORY_VARIABLE: str(directory)}
