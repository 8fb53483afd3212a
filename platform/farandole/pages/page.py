"""From a template and plain data to one self-contained HTML document."""

from __future__ import annotations

from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

_FRAME_HEIGHT_PX = 640


class Page(str):
    """An HTML document, as text. A notebook shows it in a frame of its own, so that no style leaks out of it."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        style = f"width: 100%; height: {_FRAME_HEIGHT_PX}px; border: 0"
        return f'<iframe sandbox srcdoc="{escape(self)}" style="{style}" title="Dataset"></iframe>'


def render(template: str, view: dict[str, Any]) -> Page:
    """Fill a template in. Every text in the view is escaped: data stays data, whatever it holds.

    Args:
        template: The file's name, in this folder.
        view: What the template shows.
    """
    environment = Environment(
        loader=PackageLoader("farandole.pages", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return Page(environment.get_template(template).render(view))


def number(value: float) -> str:
    """A number as people read it: `12,345`, `0.25`, `1.2e-09`."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.4g}"
