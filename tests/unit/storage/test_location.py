from __future__ import annotations

from pathlib import Path

import pytest

from farandole.storage import home, is_uri, parse_location


@pytest.mark.parametrize(
    ("text", "uri"),
    [("s3://bucket/a", True), ("package://a/b", True), ("/a/b", False), ("a.csv", False), ("C:/a", False)],
)
def test_path_with_a_scheme_is_a_uri(text: str, uri: bool) -> None:
    assert is_uri(text) is uri
    assert parse_location(text) == (text if uri else Path(text))


def test_home_comes_from_the_environment_or_the_user_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", "/srv/farandole")
    assert home() == Path("/srv/farandole")
    monkeypatch.setenv("FARANDOLE_HOME", "")
    assert home() == Path.home() / ".farandole"
