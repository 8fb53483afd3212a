"""The routes of the service, as a FastAPI application with its OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from farandole.serving.service import api_schema, bodies
from farandole.serving.service.calls import Call
from farandole.serving.service.endpoints import Endpoints
from farandole.serving.service.errors import KINDS, RequestError
from farandole.serving.service.guard import CALL, Guard
from farandole.serving.service.traces import Tracer

_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def make_app(endpoints: Endpoints, tracer: Tracer | None = None) -> Guard:
    """Return the application of a worker."""
    app = FastAPI(
        title="Farandole prediction service",
        description="Predictions and explanations of trained models.",
        openapi_url="/openapi.json",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    _add_fixed(app, endpoints)
    _add_models(app, endpoints)
    app.add_exception_handler(HTTPException, _refuse_route)
    return Guard(app, endpoints, tracer)


def _add_fixed(app: FastAPI, endpoints: Endpoints) -> None:
    """Add the routes without parameters in their paths."""

    async def predict(request: Request) -> Response:
        model, version = _query(request, "model"), _query(request, "version")
        return await endpoints.answer(_call(request), lambda call: endpoints.predict(call, model, version), "predict")

    async def explain(request: Request) -> Response:
        model, version, target = (_query(request, name) for name in ("model", "version", "target"))
        return await endpoints.answer(
            _call(request), lambda call: endpoints.explain(call, model, version, target), "explain"
        )

    def plain(answering: Callable[[Call], Coroutine[Any, Any, Response]]) -> _Handler:
        async def handle(request: Request) -> Response:
            return await endpoints.answer(_call(request), answering)

        return handle

    _add(app, "POST", "/predict", predict, "Predict raw rows", api_schema.PREDICT)
    _add(app, "POST", "/explain", explain, "Explain the predictions of raw rows", api_schema.EXPLAIN)
    _add(app, "GET", "/v2/health/live", plain(endpoints.live), "Is the server alive?", api_schema.HEALTH)
    _add(app, "GET", "/v2/health/ready", plain(endpoints.ready), "Does it accept requests?", api_schema.HEALTH)
    _add(app, "GET", "/v2", plain(endpoints.server), "Describe the server", api_schema.GET)
    _add(app, "GET", "/v2/models", plain(endpoints.models), "List models and versions", api_schema.GET)
    _add(app, "GET", "/metrics", plain(endpoints.render_metrics), "Metrics for Prometheus", api_schema.METRICS)


def _add_models(app: FastAPI, endpoints: Endpoints) -> None:
    """Add the routes of one model, and of one of its versions."""

    def named(answering: Callable[..., Coroutine[Any, Any, Response]], action: str | None, *query: str) -> _Handler:
        async def handle(request: Request) -> Response:
            names = request.path_params
            more = [_query(request, each) for each in query]
            return await endpoints.answer(
                _call(request), lambda call: answering(call, names["model"], names.get("version"), *more), action
            )

        return handle

    routes = (
        ("GET", "", named(endpoints.model, None), "Describe a model", api_schema.MODEL_GET),
        ("GET", "/ready", named(endpoints.model_ready, None), "Can the model be asked?", api_schema.MODEL_GET),
        ("POST", "/infer", named(endpoints.infer, "predict"), "Predict tensors", api_schema.INFER),
        (
            "POST",
            "/explain",
            named(endpoints.explain_tensors, "explain", "target"),
            "Explain the predictions of tensors",
            api_schema.EXPLAIN_TENSORS,
        ),
    )
    for method, end, handler, summary, document in routes:
        _add(app, method, "/v2/models/{model}" + end, handler, summary, document)
        with_version = api_schema.with_version(document)
        _add(app, method, "/v2/models/{model}/versions/{version}" + end, handler, summary, with_version)


def _add(app: FastAPI, method: str, path: str, handler: _Handler, summary: str, document: dict[str, Any]) -> None:
    name = path.strip("/").replace("/", "_").replace("{", "").replace("}", "") or "index"
    app.add_api_route(
        path,
        handler,
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


def _query(request: Request, name: str) -> str | None:
    return request.query_params.get(name) if request.scope["query_string"] else None


async def _refuse_route(request: Request, error: Exception) -> Response:
    """Answer a path or a method that does not exist."""
    assert isinstance(error, HTTPException)
    call = _call(request)
    call.kind = KINDS.get(error.status_code, "error")
    found = RequestError(error.status_code, "no such path" if error.status_code == 404 else str(error.detail))
    found.headers = dict(error.headers or {})
    return bodies.error_response(call, found, terse=True)
