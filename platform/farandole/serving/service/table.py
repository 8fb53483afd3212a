"""The models of a worker: which version answers a request, and the change to other versions while requests arrive."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from farandole.bundle import open_bundle
from farandole.errors import DataError, FarandoleError, UnavailableError
from farandole.serving.page import ShownModel
from farandole.serving.service.batcher import Batcher, BatchLimits
from farandole.serving.service.drift import DriftCounter, counter_path, read_bins
from farandole.serving.service.errors import RequestError
from farandole.serving.service.metrics import Metrics, Watched
from farandole.serving.service.payload_log import PayloadLog, protection_of
from farandole.serving.service.rows import RawRows
from farandole.serving.service.served import Predictions, ServedModel
from farandole.serving.service.settings import Deployment, ServiceSettings, Variant

if TYPE_CHECKING:
    import pyarrow as pa

    from farandole.explaining import Explainer
    from farandole.serving.service.logs import JsonLog

_QUICK_S = 0.01
"""A full batch that is computed within this time is computed in the event loop."""
_EXPLAIN_ROWS, _EXPLAIN_QUEUE_ROWS, _EXPLAIN_DEADLINE_S = 8, 256, 60.0


Explanations = list[dict[str, Any] | None]
"""One for each row; None for a row that the model's query excludes."""


@dataclass(frozen=True)
class ExplainRequest:
    """Rows to explain, and the class whose output is explained; None: the predicted one."""

    rows: RawRows
    target: str | None = None


@dataclass(eq=False)
class Slot:
    """A loaded version of a model, with its queues."""

    variant: Variant
    model: ServedModel
    predictions: Batcher[RawRows, Predictions]
    explanations: Batcher[ExplainRequest, Explanations]
    watched: Watched
    shown: ShownModel


class ModelTable:
    """All loaded models of a worker.

    Args:
        settings: The settings of the service.
        metrics: Receives batches, shadows and reloads.
        log: Receives reloads.
        directory: The workers' common directory, for counts of drift; None: drift is not counted.
        public_key: The file of the key that bundles must be signed with; None: they need not be signed.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        metrics: Metrics,
        log: JsonLog,
        directory: Path | None = None,
        public_key: str | None = None,
    ) -> None:
        self._settings, self._metrics, self._log, self._directory = settings, metrics, log, directory
        self._public_key = public_key
        self._models: dict[str, tuple[Slot, ...]] = {}
        # one thread each: predictions do not wait for explanations
        self._computing = ThreadPoolExecutor(1, "compute")
        self._explaining = ThreadPoolExecutor(1, "explain")
        self._loading = ThreadPoolExecutor(1, "load")
        self._writing = ThreadPoolExecutor(1, "write")
        self._payload = PayloadLog(Path(settings.payload_log), self._writing, log) if settings.payload_log else None
        self.generation = -1

    # Choice ----------------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The names of the models, the default one first."""
        return list(self._models)

    def slots(self, name: str | None = None) -> tuple[Slot, ...]:
        """Return all versions of a model, by default of the first one.

        Raises:
            RequestError: There is no such model.
        """
        if name is None:
            name = next(iter(self._models), "")
        if name not in self._models:
            raise RequestError(404, "there is no such model; GET /v2/models lists the models of this service")
        return self._models[name]

    def choose(self, name: str | None = None, version: str | None = None) -> Slot:
        """Return the version that answers a request: the one it names, or one by the shares of the split.

        Raises:
            RequestError: There is no such model or version.
        """
        slots = self.slots(name)
        if version is not None:
            for slot in slots:
                if version in (slot.model.version, slot.variant.label):
                    return slot
            raise RequestError(404, "there is no such version of the model; GET its metadata for the versions")
        if len(slots) == 1:
            return slots[0]
        point = random.random()
        for slot in slots:
            point -= slot.variant.weight
            if point < 0:
                return slot
        return next(slot for slot in reversed(slots) if slot.variant.weight > 0)

    def shadow(self, name: str, rows: RawRows, answered: Slot, predictions: Predictions) -> None:
        """Give the rows of a request to the shadows of its model, and compare their predictions."""
        for slot in self._models.get(name, ()):
            if slot.variant.is_shadow and slot is not answered:
                try:
                    future = slot.predictions.submit(rows, rows.num_rows)
                except RequestError as error:  # an answer never waits for a shadow
                    self._metrics.error(f"shadow_{error.kind}")
                    continue
                future.add_done_callback(lambda done, slot=slot: self._compare(slot, predictions, done))  # type: ignore[misc]

    def _compare(self, slot: Slot, predictions: Predictions, done: asyncio.Future[Predictions]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._metrics.error("shadow_failed")
            return
        first, second = predictions["prediction"], done.result()["prediction"]
        agreeing = int((first == second).sum()) if first.dtype == object else int(np.isclose(first, second).sum())
        self._metrics.shadow(slot.model.name, slot.model.version, agreeing, len(first))

    def watched(self) -> list[Watched]:
        """Return the model versions whose drift is shown."""
        return [slot.watched for slots in self._models.values() for slot in slots]

    def shown_models(self) -> list[ShownModel]:
        """Return the models for the page, each in the version that answers most requests."""
        return [max(slots, key=lambda slot: slot.variant.weight).shown for slots in self._models.values()]

    # Change ----------------------------------------------------------------------------------------------------

    async def apply(self, deployment: Deployment) -> None:
        """Serve other versions, without a pause: they are loaded first, and old ones answer what they have accepted.

        Raises:
            FarandoleError: A bundle cannot be loaded; everything is as before.
        """
        old = {self._key(slot.variant): slot for slots in self._models.values() for slot in slots}
        models: dict[str, tuple[Slot, ...]] = {}
        for name, variants in deployment.models.items():
            slots = []
            for variant in variants:
                kept = old.get(self._key(variant))
                if kept is not None:
                    kept.variant = variant
                slots.append(kept or await self._load(name, variant))
            models[name] = tuple(slots)
        self._models, self.generation = models, deployment.generation
        current = {id(slot) for slots in models.values() for slot in slots}
        for slot in old.values():
            if id(slot) not in current:
                await slot.predictions.drain()
                await slot.explanations.drain()

    async def reload(self, deployment: Deployment) -> None:
        """Serve other versions, or keep those that are served if one cannot be loaded."""
        try:
            await self.apply(deployment)
        except (FarandoleError, OSError, RuntimeError, ValueError) as error:
            self.generation = deployment.generation  # it is not tried again
            self._metrics.reload("failed")
            self._log.write("reload_failed", level="error", error=str(error))
            return
        self._metrics.reload("ok")
        self._log.write("reloaded", versions=self.describe())

    def describe(self) -> list[dict[str, Any]]:
        """Return name, version, digest and share of everything that is served."""
        return [
            {
                "model": name,
                "version": slot.model.version,
                "digest": slot.model.digest,
                "label": slot.variant.label,
                "weight": slot.variant.weight,
                "shadow": slot.variant.is_shadow,
            }
            for name, slots in self._models.items()
            for slot in slots
        ]

    @staticmethod
    def _key(variant: Variant) -> tuple[str, str]:
        return (variant.path, variant.version)

    async def _load(self, name: str, variant: Variant) -> Slot:
        loop = asyncio.get_running_loop()
        model, drift, watched = await loop.run_in_executor(self._loading, self._open, name, variant)
        observers = self._observers(model, drift)
        model.observe = lambda batch, found: [observe(batch, found) for observe in observers]
        is_quick = self._settings.compute_in == "loop"
        if self._settings.compute_in == "auto":
            is_quick = (
                await loop.run_in_executor(self._loading, _full_batch_s, model, self._settings.batches) < _QUICK_S
            )
        predictions = Batcher(
            model.compute,
            self._settings.batches,
            None if is_quick else self._computing,
            lambda rows, seconds, queued: self._metrics.batch(name, model.version, rows, seconds, queued),
        )
        limits = BatchLimits(_EXPLAIN_ROWS, 0.0, _EXPLAIN_QUEUE_ROWS, _EXPLAIN_DEADLINE_S)
        explanations = Batcher(_Explaining(model).compute, limits, self._explaining)
        columns = dict(model.columns.types) if model.query is not None else None
        shown = ShownModel(name, model.bundle, model.version, columns)
        return Slot(variant, model, predictions, explanations, watched, shown)

    def _open(self, name: str, variant: Variant) -> tuple[ServedModel, DriftCounter | None, Watched]:
        bundle = open_bundle(variant.path, self._public_key)
        model = ServedModel(bundle, bundle.predictor(self._settings.form), variant.version, name=name)
        model.warm_up()
        statistics = bundle.read_json("statistics.json") if (bundle.path / "statistics.json").is_file() else {}
        key = f"{name}-{model.digest[7:23]}"
        bins = read_bins(statistics.get("columns") or {})
        outputs = read_bins(statistics.get("predictions") or {})
        watched = Watched(name, model.version, key, bins, outputs)
        if self._directory is None or not (bins or outputs):
            return model, None, watched
        return model, DriftCounter([*bins, *outputs], counter_path(self._directory, key)), watched

    def _observers(
        self, model: ServedModel, drift: DriftCounter | None
    ) -> list[Callable[[pa.RecordBatch, Predictions], None]]:
        observers: list[Callable[[pa.RecordBatch, Predictions], None]] = []
        if drift is not None:
            observers.append(lambda batch, found: drift.observe(_columns(batch) | dict(found), batch.num_rows))
        if self._payload is not None:
            payload, protection = self._payload, protection_of(model.bundle)
            observers.append(lambda batch, found: payload.add(model.name, model.version, protection, batch, found))
        return observers

    def write_payload(self) -> None:
        """Write rows of the payload log that have waited for long enough."""
        if self._payload is not None:
            self._payload.write_old()

    async def drain(self) -> None:
        """Return once everything that was accepted is answered and written."""
        for slots in self._models.values():
            for slot in slots:
                await slot.predictions.drain()
                await slot.explanations.drain()
        if self._payload is not None:
            self._payload.close()
        for executor in (self._computing, self._explaining, self._loading, self._writing):
            await asyncio.to_thread(executor.shutdown)


def _columns(batch: pa.RecordBatch) -> dict[str, Any]:
    return dict(zip(batch.schema.names, batch.columns, strict=True))


def _full_batch_s(model: ServedModel, limits: BatchLimits) -> float:
    """Return the seconds that a full batch of examples takes, with its query on as many rows of missing values."""
    example = model.bundle.preprocessing.example()
    columns = {name: list(values) * limits.max_rows for name, values in example.items()}
    best_s = float("inf")
    for _ in range(2):
        started_s = time.perf_counter()
        model.predictor.predict(columns)
        if model.query is not None:
            try:
                model.query.apply(
                    model.query.raw_batch({name: [None] * limits.max_rows for name in model.query.columns})
                )
            except DataError:  # such rows are not valid, so the time is not known
                return best_s
        best_s = min(best_s, time.perf_counter() - started_s)
    return best_s


class _Explaining:
    """The explainer of one model, which is created by its first request.

    Args:
        model: The model.
    """

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self._explainer: Explainer | None = None

    def compute(self, requests: Sequence[ExplainRequest]) -> list[Explanations | Exception]:
        """Return the explanations of each request, or the error that is its alone."""
        return [self._explain(request) for request in requests]

    def _explain(self, request: ExplainRequest) -> Explanations | Exception:
        try:
            rows = self._model.convert(request.rows)
            if self._explainer is None:
                from farandole.explaining import Explainer, open_explained

                self._explainer = Explainer(open_explained(self._model.bundle))
            explained: Explanations = [found.to_dict() for found in self._explainer.explain(rows.batch, request.target)]
            if rows.kept is None:
                return explained
            by_position = dict(zip(rows.kept.tolist(), explained, strict=True))
            return [by_position.get(position) for position in range(rows.num_rows)]
        except RequestError as error:
            return error
        except UnavailableError:
            return RequestError(501, "this service cannot explain: a library is missing", kind="not_explained")
        except FarandoleError as error:
            return RequestError(422, str(error), kind="not_explained")


def slot_list(slots: Iterable[Slot]) -> list[str]:
    """Return the versions of slots, each once."""
    return list(dict.fromkeys(slot.model.version for slot in slots))
