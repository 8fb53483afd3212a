from __future__ import annotations

from pathlib import Path

import pytest

from farandole.storage import is_uri, parse_location


@pytest.mark.parametrize(
    ("text", "uri"), [("s3://bucket/a", True), ("package://a/b", True), ("/a/b", False), ("a", False), ("C:/a", False)]
)
def test_uri_is_told_from_a_path(text: str, uri: bool) -> None:
    assert is_uri(text) is uri
    assert parse_location(text) == (text if uri else Path(text))
