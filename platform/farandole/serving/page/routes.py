"""The routes of the page: the page itself, the part about one model, and its own script and style."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from farandole.serving.page.outline import format_number
from farandole.serving.page.shown_model import ShownModel

MODEL_PATH = "/page/model"
"""Path of the part about a model, which names its columns and categories: only for those who may predict."""
PUBLIC_PATHS = ("/", "/page/assets/")
"""Paths that say nothing about a model of a guarded service, so that a browser can open the page without a key."""

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types farandole-page",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Headers of every answer of the page."""
_MEDIA_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
_KEPT_PARTS = 32
"""Models of which the rendered part of the page is kept."""
_YEAR_S = 365 * 24 * 60 * 60


def page_routes(models: Callable[[], Sequence[ShownModel]], *, guarded: bool) -> list[Route]:
    """Return the routes of the page.

    The page reaches the service at `predict` and `explain`, relative to itself, with the model as query parameter.

    Args:
        models: Returns the models that are served now, the default one first.
        guarded: Whether requests need a key. If so, the page is empty until the caller enters one, and the service has
            to guard `MODEL_PATH` like a prediction; `PUBLIC_PATHS` stay open.
    """

    async def page(request: Request) -> Response:
        view = {"guarded": guarded, "version": asset_version(), "content": None, "title": None}
        if guarded:
            return _answer(_render("page.html.j2", view))
        chosen, content = await _content(models(), request.query_params.get("model"))
        view |= {"content": Markup(content), "title": chosen and chosen.name}
        return _answer(_render("page.html.j2", view), 200 if chosen else 404)

    async def model(request: Request) -> Response:
        chosen, content = await _content(models(), request.query_params.get("model"))
        return _answer(content, 200 if chosen else 404)

    async def asset(request: Request) -> Response:
        found = _assets().get(request.path_params["name"])
        if found is None or request.path_params["version"] != asset_version():
            return Response("There is no such file; reload the page.", 404, SECURITY_HEADERS, "text/plain")
        headers = {**SECURITY_HEADERS, "Cache-Control": f"public, max-age={_YEAR_S}, immutable"}
        return Response(found[0], headers=headers, media_type=found[1])

    return [
        Route("/", page),
        Route(MODEL_PATH, model),
        Route("/page/assets/{version}/{name}", asset),
    ]


async def _content(models: Sequence[ShownModel], name: str | None) -> tuple[ShownModel | None, str]:
    """Return the model of a name, by default the first, and the part of the page about it.

    A form of a thousand columns takes long to render, so it is rendered once and in a thread.
    """
    names = tuple(model.name for model in models)
    chosen = next((model for model in models if name in (None, model.name)), None)
    if chosen is None:
        return None, _render("model.html.j2", {"models": names, "model": None, "lacking": name})
    return chosen, await asyncio.to_thread(_model_part, chosen, names)


@lru_cache(maxsize=_KEPT_PARTS)
def _model_part(model: ShownModel, names: tuple[str, ...]) -> str:
    return _render("model.html.j2", {"models": names, "model": model.view, "lacking": None})


def _render(template: str, view: Mapping[str, Any]) -> str:
    return _environment().get_template(template).render(view)


def _answer(html: str, status: int = 200) -> Response:
    return HTMLResponse(html, status, {**SECURITY_HEADERS, "Cache-Control": "no-store"})


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("farandole.serving.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    return environment


@cache
def _assets() -> dict[str, tuple[bytes, str]]:
    """Return the page's own files: name to content and media type."""
    folder = resources.files("farandole.serving.page")
    return {
        entry.name: (entry.read_bytes(), media_type)
        for entry in folder.iterdir()
        if (media_type := _MEDIA_TYPES.get(entry.name.rpartition(".")[2]))
    }


@cache
def asset_version() -> str:
    """Return a digest of the page's own files. It is part of their paths, so that browsers may keep them."""
    digest = hashlib.sha256()
    for name, (content, _) in sorted(_assets().items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]
