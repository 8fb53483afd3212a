"""The surroundings of every request: access, the headers of the answer, metrics, the log, and traces."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from starlette.responses import Response

from farandole.serving.access import AccessDenied, Scope, security_headers
from farandole.serving.service.calls import Call, Message, Receive, Send
from farandole.serving.service.endpoints import Endpoints
from farandole.serving.service.traces import Tracer

App = Callable[[Message, Receive, Send], Awaitable[None]]
ShortCut = Callable[[Call], Awaitable[Response]]
"""A handler that is reached without the routes."""

CALL = "farandole.call"
"""The key of the request's `Call` in ASGI's scope."""
_PUBLIC = {"/v2/health/live": "live", "/v2/health/ready": "ready"}
_FIXED: dict[str, tuple[str, Scope]] = {
    "/predict": ("predict", "predict"),
    "/explain": ("explain", "explain"),
    "/metrics": ("metrics", "admin"),
}


def route_of(path: str, public_paths: tuple[str, ...] = ()) -> tuple[str, Scope | None]:
    """Return the name of a route for metrics, and the scope that it needs; None: anybody may ask.

    Every path that is not listed needs a key: what does not exist is not revealed without one either.
    """
    if path in _FIXED:
        return _FIXED[path]
    if path in _PUBLIC:
        return _PUBLIC[path], None
    if path.startswith("/v2/models/"):
        last = path.rpartition("/")[2]
        if last == "infer":
            return "infer", "predict"
        if last == "explain":
            return "explain", "explain"
        return "metadata", "predict"
    if any(path == each or (each != "/" and each.endswith("/") and path.startswith(each)) for each in public_paths):
        return "page", None
    return "other", "predict"


class Guard:
    """ASGI application around the routes.

    Args:
        app: The routes.
        endpoints: The answers, with access control, metrics and log.
        short_cut: Returns the handler for a method and a path, for some requests.
        tracer: Makes spans; None: there are none.
        public_paths: More paths that need no key.
    """

    def __init__(
        self,
        app: App,
        endpoints: Endpoints,
        short_cut: Callable[[str, str], ShortCut | None],
        tracer: Tracer | None = None,
        public_paths: tuple[str, ...] = (),
    ) -> None:
        self._app, self._endpoints, self._short_cut = app, endpoints, short_cut
        self._tracer, self._public_paths = tracer, public_paths
        settings = endpoints.settings
        headers = security_headers(tls=bool(settings.tls), hsts_s=settings.hsts_s)
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = Call(scope, receive)
        call.route, needed = route_of(scope["path"], self._public_paths)
        scope[CALL] = call
        span = self._tracer.start(call.route, scope["headers"]) if self._tracer is not None else None
        status = 0
        own_headers = [(b"x-request-id", call.request_id.encode()), *self._headers]

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                present = {name for name, _ in headers}
                headers += [each for each in own_headers if each[0] not in present]
                if self._endpoints.is_draining:
                    headers.append((b"connection", b"close"))
            await send(message)

        try:
            response = await self._authorize(call, needed)
            if response is None and (handler := self._short_cut(scope["method"], scope["path"])) is not None:
                response = await handler(call)
            await (self._app if response is None else response)(scope, receive, send_with_headers)
        finally:
            self._finish(call, status or 499)
            if span is not None:
                span.set_attributes(
                    {
                        "http.request.method": scope["method"],
                        "http.response.status_code": status,
                        "farandole.model": call.model,
                        "farandole.version": call.version,
                        "farandole.rows": call.rows,
                    }
                )
                span.end()

    async def _authorize(self, call: Call, needed: Scope | None) -> Response | None:
        access = self._endpoints.access
        if needed is None or access is None:
            return None
        try:
            call.caller = await access.authorize(call.scope["headers"], needed, call.certificate)
        except AccessDenied as denied:
            return self._endpoints.denied(call, denied)
        return None

    def _finish(self, call: Call, status: int) -> None:
        seconds = time.perf_counter() - call.started_s
        endpoints = self._endpoints
        endpoints.metrics.request(call.model, call.version, call.route, status, seconds)
        if call.kind is not None:
            endpoints.metrics.error(call.kind)
        if endpoints.settings.log_requests and call.route not in ("live", "ready"):
            endpoints.log.request(
                request_id=call.request_id,
                route=call.route,
                status=status,
                ms=round(seconds * 1000, 3),
                model=call.model,
                version=call.version,
                rows=call.rows,
                caller=call.caller.id if call.caller is not None else None,
                kind=call.kind,
            )
