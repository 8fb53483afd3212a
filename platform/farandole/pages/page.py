"""Rendering of templates to self-contained HTML documents."""

from __future__ import annotations

from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

_FRAME_HEIGHT_PX = 640


class Page(str):
    """An HTML document. A notebook shows it in a sandboxed frame, so that its styles do not leak."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        style = f"width: 100%; height: {_FRAME_HEIGHT_PX}px; border: 0"
        return f'<iframe sandbox srcdoc="{escape(self)}" style="{style}" title="Dataset"></iframe>'


def render(template: str, view: dict[str, Any]) -> Page:
    """Render a template. Every text in the view is escaped.

    Args:
        template: Name of the file in this package.
        view: The variables of the template.
    """
    environment = Environment(
        loader=PackageLoader("farandole.pages", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    return Page(environment.get_template(template).render(view))


def format_time(text: str) -> str:
    """Format a time in ISO 8601 for people: `2026-11-30 12:00:00`, `2026-11-30`."""
    return text.replace("T", " ")[:19]


def format_number(value: float) -> str:
    """Format a number for people: `12,345`, `0.25`, `1.2e-09`."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.4g}"
