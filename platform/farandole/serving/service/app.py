"""The routes of the service, as a FastAPI application with its OpenAPI document.

FastAPI's way to a handler takes several times as long as everything that a small prediction needs besides the network.
So requests for predictions take a short cut, past its middleware and routing, to the same handlers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from farandole.serving.page import PUBLIC_PATHS, page_routes
from farandole.serving.service import api_schema, bodies
from farandole.serving.service.calls import Call
from farandole.serving.service.endpoints import Endpoints
from farandole.serving.service.errors import KINDS, RequestError
from farandole.serving.service.guard import CALL, Guard, ShortCut
from farandole.serving.service.traces import Tracer

Names = Mapping[str, str]
"""The parts of a path that are names: `model`, `version`."""
Handler = Callable[[Call, Names], Awaitable[Response]]

_MODELS = "/v2/models/"
_INFER = "/infer"


def make_app(endpoints: Endpoints, tracer: Tracer | None = None) -> Guard:
    """Return the application of a worker."""
    app = FastAPI(
        title="Farandole prediction service",
        description="Predictions and explanations of trained models.",
        openapi_url="/openapi.json",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    handlers = _Handlers(endpoints)
    _add_fixed(app, endpoints, handlers)
    _add_models(app, endpoints, handlers)
    app.router.routes.extend(page_routes(endpoints.table.shown_models, guarded=endpoints.access is not None))
    app.add_exception_handler(HTTPException, _refuse_route)
    return Guard(app, endpoints, handlers.short_cut, tracer, PUBLIC_PATHS)


class _Handlers:
    """Handlers that take names from paths and queries.

    Args:
        endpoints: The answers.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    def short_cut(self, method: str, path: str) -> ShortCut | None:
        """Return the handler of a prediction; None for all other requests."""
        if method != "POST":
            return None
        if path == "/predict":
            return lambda call: self.predict(call, {})
        if path.startswith(_MODELS) and path.endswith(_INFER):
            name = path[len(_MODELS) : -len(_INFER)]
            if name and "/" not in name:
                return lambda call: self.infer(call, {"model": name})
        return None

    async def predict(self, call: Call, names: Names) -> Response:
        endpoints, query = self._endpoints, _query(call)
        model, version = query.get("model"), query.get("version")
        return await endpoints.answer(call, lambda call: endpoints.predict(call, model, version), "predict")

    async def infer(self, call: Call, names: Names) -> Response:
        endpoints = self._endpoints
        return await endpoints.answer(
            call, lambda call: endpoints.infer(call, names["model"], names.get("version")), "predict"
        )

    async def explain(self, call: Call, names: Names) -> Response:
        endpoints, query = self._endpoints, _query(call)
        model, version, target = (query.get(name) for name in ("model", "version", "target"))
        return await endpoints.answer(call, lambda call: endpoints.explain(call, model, version, target), "explain")

    async def explain_tensors(self, call: Call, names: Names) -> Response:
        endpoints, target = self._endpoints, _query(call).get("target")
        return await endpoints.answer(
            call,
            lambda call: endpoints.explain_tensors(call, names["model"], names.get("version"), target),
            "explain",
        )


def _add_fixed(app: FastAPI, endpoints: Endpoints, handlers: _Handlers) -> None:
    """Add the routes without names in their paths."""

    def plain(answering: Callable[[Call], Awaitable[Response]]) -> Handler:
        return lambda call, names: endpoints.answer(call, answering)

    _add(app, "POST", "/predict", handlers.predict, "Predict raw rows", api_schema.PREDICT)
    _add(app, "POST", "/explain", handlers.explain, "Explain the predictions of raw rows", api_schema.EXPLAIN)
    _add(app, "GET", "/v2/health/live", plain(endpoints.live), "Is the server alive?", api_schema.HEALTH)
    _add(app, "GET", "/v2/health/ready", plain(endpoints.ready), "Does it accept requests?", api_schema.HEALTH)
    _add(app, "GET", "/v2", plain(endpoints.server), "Describe the server", api_schema.GET)
    _add(app, "GET", "/v2/models", plain(endpoints.models), "List models and versions", api_schema.GET)
    _add(app, "GET", "/metrics", plain(endpoints.render_metrics), "Metrics for Prometheus", api_schema.METRICS)


def _add_models(app: FastAPI, endpoints: Endpoints, handlers: _Handlers) -> None:
    """Add the routes of one model, and of one of its versions."""

    def named(answering: Callable[[Call, str, str | None], Awaitable[Response]]) -> Handler:
        return lambda call, names: endpoints.answer(
            call, lambda call: answering(call, names["model"], names.get("version"))
        )

    routes = (
        ("GET", "", named(endpoints.model), "Describe a model", api_schema.MODEL_GET),
        ("GET", "/ready", named(endpoints.model_ready), "Can the model be asked?", api_schema.MODEL_GET),
        ("POST", _INFER, handlers.infer, "Predict tensors", api_schema.INFER),
        (
            "POST",
            "/explain",
            handlers.explain_tensors,
            "Explain the predictions of tensors",
            api_schema.EXPLAIN_TENSORS,
        ),
    )
    for method, end, handler, summary, document in routes:
        _add(app, method, _MODELS + "{model}" + end, handler, summary, document)
        with_version = api_schema.with_version(document)
        _add(app, method, _MODELS + "{model}/versions/{version}" + end, handler, summary, with_version)


def _add(app: FastAPI, method: str, path: str, handler: Handler, summary: str, document: dict[str, Any]) -> None:
    async def handle(request: Request) -> Response:
        return await handler(_call(request), request.path_params)

    name = path.strip("/").replace("/", "_").replace("{", "").replace("}", "")
    app.add_api_route(
        path,
        handle,
        methods=[method],
        summary=summary,
        operation_id=f"{method.lower()}_{name}",
        response_class=Response,
        responses=api_schema.responses(document),
        openapi_extra={key: value for key, value in document.items() if key != "responses"},
    )


def _call(request: Request) -> Call:
    call: Call = request.scope[CALL]
    return call


def _query(call: Call) -> dict[str, str]:
    """Return the parameters of the query; of one that is given twice, the last."""
    text = call.scope["query_string"]
    return {name: values[-1] for name, values in parse_qs(text.decode("latin-1")).items()} if text else {}


async def _refuse_route(request: Request, error: Exception) -> Response:
    """Answer a path or a method that does not exist."""
    assert isinstance(error, HTTPException)
    call = _call(request)
    call.kind = KINDS.get(error.status_code, "error")
    text = "there is no such path" if error.status_code == 404 else str(error.detail)
    found = RequestError(error.status_code, text, headers=error.headers)
    return bodies.error_response(call, found, terse=True)
