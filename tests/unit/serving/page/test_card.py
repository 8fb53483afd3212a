"""Cards are rendered as Markdown, and nothing in them runs or loads."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farandole.serving.page.card import render_card


def test_headings_move_below_those_of_the_page() -> None:
    html = render_card("# One\n\n## Two\n\n##### Five\n\n###### Six")
    assert re.findall(r"<(h\d)>", html) == ["h3", "h4", "h6", "h6"]
    assert re.findall(r"</(h\d)>", html) == ["h3", "h4", "h6", "h6"]


def test_tables_lists_and_emphasis_are_rendered() -> None:
    html = render_card("| a | b |\n|---|---|\n| 1 | 2 |\n\n- *x*\n")
    assert "<td>2</td>" in html
    assert "<li><em>x</em></li>" in html


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "a <img src=x onerror=alert(1)> b", "<div\nonclick='x'>", "<!-- x -->", "<b>x</b>"],
)
def test_html_in_a_card_stays_text(text: str) -> None:
    html = render_card(text)
    assert re.findall(r"<(\w+)", html) == ["p"]
    assert "&lt;" in html


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc", "//evil.example"],
)
def test_links_that_are_not_of_the_web_stay_text(url: str) -> None:
    assert "<a" not in render_card(f"[word]({url}) and <{url}>")


def test_links_of_the_web_leave_no_trace() -> None:
    html = render_card("[word](https://example.org/)")
    assert '<a href="https://example.org/" rel="noopener noreferrer nofollow">word</a>' in html


def test_images_become_their_descriptions() -> None:
    html = render_card("![a <b>plot</b>](http://example.org/x.png)")
    assert html == "<p>a &lt;b&gt;plot&lt;/b&gt;</p>\n"


@given(st.text(alphabet=st.sampled_from("<>\"'&#![]()`*_-|\n\\ :/ascriptxonerror="), max_size=60))
def test_no_text_becomes_an_element_that_is_not_markdown(text: str) -> None:
    allowed = {
        "p",
        "h3",
        "h4",
        "h5",
        "h6",
        "em",
        "strong",
        "code",
        "pre",
        "a",
        "ul",
        "ol",
        "li",
        "blockquote",
        "hr",
        "br",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    }
    html = render_card(text)
    assert set(re.findall(r"<(\w+)", html)) <= allowed
    assert not re.search(r"<[^>]*\son\w+=", html)
