"""Model cards, which are Markdown, as HTML that cannot run or load anything."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_SHIFT = 2
"""Levels by which headings move down: the page has its own first and second level."""
_LINKS = ("http:", "https:", "mailto:")


def render_card(text: str) -> Markup:
    """Return a card as HTML. Raw HTML in it stays text, images become their descriptions, and links leave no trace."""
    return Markup(_parser().render(text))  # the parser escapes every text


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.core.ruler.push("farandole_page", _adapt)
    parser.validateLink = lambda url: url.lower().startswith(_LINKS)  # type: ignore[method-assign]
    return parser


def _adapt(state: Any) -> None:
    """Move headings down, mark links, and replace images by their descriptions, in the parsed card."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + _SHIFT)}"
        for inner in token.children or ():
            if inner.type == "link_open":
                inner.attrSet("rel", "noopener noreferrer nofollow")
            elif inner.type == "image":
                inner.type, inner.tag, inner.children = "text", "", None
