from __future__ import annotations

from html import unescape

import pytest

from farandole.pages import Page
from farandole.pages.page import format_number


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (-3.0, "-3"),
        (1234567, "1,234,567"),
        (0.25, "0.25"),
        (1234.567, "1,235"),
        (98765.4321, "98,765"),
        (1.23456e-9, "1.235e-09"),
        (1.5e20, "1.5e+20"),
    ],
)
def test_numbers_are_formatted_for_people(value: float, shown: str) -> None:
    assert format_number(value) == shown


def test_a_notebook_shows_a_page_in_a_sandboxed_frame() -> None:
    frame = Page('<p title="a">&amp; </p>"><script>')._repr_html_()
    assert frame.startswith('<iframe sandbox srcdoc="')
    assert "<p" not in frame
    assert unescape(frame.split('srcdoc="')[1].split('"')[0]) == '<p title="a">&amp; </p>"><script>'
