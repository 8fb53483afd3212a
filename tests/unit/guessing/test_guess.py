"""The checks of a job that is guessed: its name and the kind of its label."""

from __future__ import annotations

from pathlib import Path

import pytest

from farandole import api
from farandole.errors import SpecError
from farandole.guessing.guess import job_name
from farandole.spec import is_job_name
from tests.support.guesses import guess_file, two_columns
from tests.support.odd_tables import write_table


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Bad Name"}, r"^--name Bad Name: use lower-case letters, digits and `-`, at most 53 characters$"),
        ({"name": "../evil"}, r"^--name \.\./evil: use lower-case"),
        ({"name": "a" * 54}, r"at most 53 characters$"),
        ({"name": "line\n"}, r"use lower-case"),
        ({"name": ""}, r"use lower-case"),
        ({"kind": "wrong"}, r"^--kind wrong: is not known; use binary, multiclass, regression$"),
        ({"kind": "auto"}, r"^--kind auto: is not known"),
    ],
)
def test_impossible_names_and_kinds_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], message: str
) -> None:
    path = write_table(tmp_path / "here" / "t.csv", "x,y", two_columns)
    monkeypatch.chdir(path.parent)
    with pytest.raises(SpecError, match=message):
        guess_file(path, "y", **options)
    good = api.init(str(path), label="y")
    text = good.read_text()
    with pytest.raises(SpecError, match=message):
        api.init(str(path), label="y", force=True, **options)
    assert good.read_text() == text
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["here", "job.yaml", "t", "t.csv"]


def test_names_of_data_are_names_of_jobs() -> None:
    for path in ("/a/My Data (2).csv", "/a/___.csv", f"/a/{'x-' * 60}.csv", "/a/größe.csv"):
        assert is_job_name(job_name(path)), path
