from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from farandole.storage import file_path, file_uri, join_location, split_location, sqlite_path, sqlite_uri

NAMES = st.one_of(
    st.sampled_from(["per%20cent", "a?b", "a#b", "a+b", "a b", "日本", "100%", "a%2Fb", "a@b:c", "a;b&c=d", "a\\b"]),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12),
).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: "/" + "/".join(names))


@given(PATHS)
def test_a_path_survives_its_uris(path: str) -> None:
    assert str(file_path(file_uri(path))) == path
    assert str(sqlite_path(sqlite_uri(path))) == path
    assert make_url(sqlite_uri(path)).database == path
    assert urlsplit(file_uri(path)).query == urlsplit(file_uri(path)).fragment == ""


def test_a_plain_path_has_the_usual_sqlite_uri() -> None:
    assert sqlite_uri("/home/ada/.farandole/mlflow.db") == "sqlite:////home/ada/.farandole/mlflow.db"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:////home/a/m.db?timeout=3", Path("/home/a/m.db")),
        ("sqlite:///m.db", Path("m.db")),
        ("postgresql://db/m", None),
        ("http://mlflow", None),
    ],
)
def test_only_sqlite_uris_have_a_file(uri: str, path: Path | None) -> None:
    assert sqlite_path(uri) == path


@given(NAMES)
def test_a_joined_location_is_split_again(name: str) -> None:
    for folder in ("s3://bucket/a%20b?region=eu-west-1", "s3://bucket/a%20b", "/a/b%20c"):
        assert split_location(join_location(folder, name)) == (folder, name)


def test_options_stay_at_the_end_of_a_joined_location() -> None:
    assert join_location("s3://bucket/a/?region=x", "jobs/one", "b c") == "s3://bucket/a/jobs/one/b%20c?region=x"
    assert join_location("/a/b", "c%d") == os.path.join("/a/b", "c%d")
