"""The answers of the service, without HTTP's routes: see `app` for those."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from starlette.responses import Response

from farandole.serving.access import Access, AccessDenied
from farandole.serving.service import bodies, inference_protocol
from farandole.serving.service.binary_tensors import EXTENSION, HEADER
from farandole.serving.service.calls import Call
from farandole.serving.service.errors import RequestError
from farandole.serving.service.logs import JsonLog
from farandole.serving.service.metrics import Metrics
from farandole.serving.service.rows import RawRows
from farandole.serving.service.settings import ServiceSettings
from farandole.serving.service.table import ExplainRequest, ModelTable, Slot, slot_list

T = TypeVar("T")
Answering = Callable[[Call], Awaitable[Response]]

_LARGE_BODY = 128 * 1024
"""Larger bodies are parsed in a thread, so that the event loop can answer other requests meanwhile."""


class Endpoints:
    """Answers of one worker.

    Args:
        settings: The settings of the service.
        table: The loaded models.
        access: Access control; None: callers need no key.
        metrics: Counts requests.
        log: Receives unexpected errors.
    """

    def __init__(
        self, settings: ServiceSettings, table: ModelTable, access: Access | None, metrics: Metrics, log: JsonLog
    ) -> None:
        self.settings, self.table, self.access, self.metrics, self.log = settings, table, access, metrics, log
        self.is_ready = self.is_draining = False

    # Health and metadata -----------------------------------------------------------------------------------------

    async def live(self, call: Call) -> Response:
        """Answer that the process is alive."""
        return bodies.json_response({"live": True})

    async def ready(self, call: Call) -> Response:
        """Answer whether requests are welcome."""
        is_ready = self.is_ready and not self.is_draining
        return bodies.json_response({"ready": is_ready}, 200 if is_ready else 503)

    async def server(self, call: Call) -> Response:
        """Describe the server."""
        from importlib.metadata import version

        return bodies.json_response(
            {
                "name": "farandole",
                "version": version("farandole"),
                "extensions": ["explain", "raw_rows", "arrow", EXTENSION],
            }
        )

    async def models(self, call: Call) -> Response:
        """List what is served."""
        return bodies.json_response({"models": self.table.describe()})

    async def model(self, call: Call, name: str, version: str | None = None) -> Response:
        """Describe a model."""
        slots = self.table.slots(name)
        slot = self.table.choose(name, version) if version is not None else slots[0]
        self._note(call, slot)
        return bodies.json_response(inference_protocol.metadata(slot.model, slot_list(slots)))

    async def model_ready(self, call: Call, name: str, version: str | None = None) -> Response:
        """Answer whether a model can be asked."""
        slot = self.table.choose(name, version)
        self._note(call, slot)
        return bodies.json_response({"name": name, "ready": True, "version": slot.model.version})

    async def render_metrics(self, call: Call) -> Response:
        """Return the metrics of all workers."""
        text = await asyncio.to_thread(self.metrics.render)
        from farandole.serving.service.metrics import CONTENT_TYPE

        return Response(text, media_type=CONTENT_TYPE)

    # Predictions ---------------------------------------------------------------------------------------------------

    async def predict(self, call: Call, name: str | None, version: str | None) -> Response:
        """Predict raw rows."""
        slot = self._choose(call, name, version)
        rows = await self._rows(call, slot)
        found = await self._predict(call, slot, rows)
        return bodies.write_predictions(call, slot.model, rows, found)

    async def infer(self, call: Call, name: str, version: str | None = None) -> Response:
        """Predict the tensors of the Open Inference Protocol."""
        slot = self._choose(call, name, version)
        rows, document = await self._tensors(call, slot)
        found = await self._predict(call, slot, rows)
        return bodies.inference_response(*inference_protocol.answer(slot.model, found, document))

    async def explain(self, call: Call, name: str | None, version: str | None, target: str | None) -> Response:
        """Explain the predictions of raw rows."""
        slot = self._choose(call, name, version)
        return await self._explain(call, slot, await self._rows(call, slot), target)

    async def explain_tensors(self, call: Call, name: str, version: str | None, target: str | None) -> Response:
        """Explain the predictions of tensors."""
        slot = self._choose(call, name, version)
        return await self._explain(call, slot, (await self._tensors(call, slot))[0], target)

    async def _predict(self, call: Call, slot: Slot, rows: RawRows) -> Any:
        self._charge(call, rows.num_rows)
        found = await slot.predictions.submit(rows, rows.num_rows)
        if len(self.table.slots(slot.model.name)) > 1:
            self.table.shadow(slot.model.name, rows, slot, found)
        return found

    async def _explain(self, call: Call, slot: Slot, rows: RawRows, target: str | None) -> Response:
        self._charge(call, rows.num_rows)
        found = await slot.explanations.submit(ExplainRequest(rows, target), rows.num_rows)
        return bodies.write_explanations(slot.model, found)

    def _choose(self, call: Call, name: str | None, version: str | None) -> Slot:
        slot = self.table.choose(name, version)
        self._note(call, slot)
        return slot

    @staticmethod
    def _note(call: Call, slot: Slot) -> None:
        call.model, call.version, call.digest = slot.model.name, slot.model.version, slot.model.digest

    async def _rows(self, call: Call, slot: Slot) -> RawRows:
        limits = self.settings.limits
        body = await call.body(limits.max_body_bytes, limits.body_s)
        read = partial(bodies.read_rows, call, body, slot.model.columns, limits, self.settings.not_a_number)
        return await self._parse(body, read)

    async def _tensors(self, call: Call, slot: Slot) -> tuple[RawRows, dict[str, Any]]:
        limits = self.settings.limits
        body = await call.body(limits.max_body_bytes, limits.body_s)
        read = partial(
            inference_protocol.read_request,
            body,
            slot.model.columns,
            limits,
            self.settings.not_a_number,
            call.headers.get(HEADER.encode()),
        )
        return await self._parse(body, read)

    @staticmethod
    async def _parse(body: bytes, read: Callable[[], T]) -> T:
        return read() if len(body) <= _LARGE_BODY else await asyncio.to_thread(read)

    def _charge(self, call: Call, rows: int) -> None:
        call.rows = rows
        if self.access is not None and call.caller is not None:
            self.access.charge(call.caller, rows, call.certificate)
            call.charged = rows

    # Around every answer -------------------------------------------------------------------------------------------

    async def answer(self, call: Call, answering: Answering, action: str | None = None) -> Response:
        """Return an answer or an error, after it was recorded.

        Args:
            call: The request.
            answering: Makes the answer.
            action: The action for the audit log; None: it is not recorded.
        """
        try:
            response = await answering(call)
            if action is not None:
                await self._record(call, action, response.status_code)
            return response
        except RequestError as error:
            return await self._failed(call, error, action)
        except AccessDenied as error:
            return self.denied(call, error)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - its text may hold anything
            self.log.write(
                "internal_error", level="error", request_id=call.request_id, error=f"{type(error).__name__}: {error}"
            )
            return await self._failed(call, RequestError(500, "the service failed; the log has the reason"), action)

    def denied(self, call: Call, error: AccessDenied) -> Response:
        """Return the answer to a caller who may not do this; it says no more than the refusal does."""
        call.kind = error.code
        call.caller = call.caller or error.caller
        return bodies.error_response(
            call, RequestError(error.status, error.public_message, kind=error.code, headers=error.headers), terse=True
        )

    async def _failed(self, call: Call, error: RequestError, action: str | None) -> Response:
        call.kind = error.kind
        if call.charged and error.status >= 429 and self.access is not None and call.caller is not None:
            self.access.give_back(call.caller, call.charged)
        try:
            if action is not None:
                await self._record(call, action, error.status)
        except AccessDenied as denied:
            return self.denied(call, denied)
        return bodies.error_response(call, error, terse=self.settings.terse_errors)

    async def _record(self, call: Call, action: str, status: int) -> None:
        """Write the audit log.

        Raises:
            AccessDenied: It cannot be written, and must be.
        """
        if self.access is not None and call.caller is not None:
            more = {"certificate": call.certificate} if call.certificate is not None else {}
            await self.access.record(
                call.caller,
                action,
                status,
                model=call.model,
                version=call.version,
                digest=call.digest,
                rows=call.rows,
                request_id=call.request_id,
                **more,
            )
