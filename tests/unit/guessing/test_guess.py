"""Guesses about files as a whole: the name, the kind, and what is left out."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image

from farandole import api
from farandole.errors import DataError, SpecError
from farandole.guessing.guess import job_name
from farandole.guessing.job_text import write_job_file
from farandole.spec import is_job_name, load_job
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


def test_folders_of_images_become_classes(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(12):
            Image.new("L", (30, 20), number).save(tmp_path / "in" / name / f"{number}.png")
    found = guess_file(tmp_path / "in")
    assert found.label.spec == {"column": "label", "kind": "binary"}
    assert found.features[0].spec == {"kind": "image", "size": [20, 30], "mode": "gray"}
    assert found.builder == "farandole.models.cnn:build"
    assert load_job(write_job_file(found, tmp_path / "job")).network.builder == "farandole.models.cnn:build"


def test_folder_of_several_formats_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", "x,y", two_columns)
    (tmp_path / "b.json").write_text('{"x": 1}\n')
    with pytest.raises(DataError, match=r"several formats: csv \(a.csv\) and json \(b.json\); name one"):
        guess_file(tmp_path)


def test_rows_and_classes_that_are_left_out_are_reported(tmp_path: Path) -> None:
    def row(source: random.Random, number: int) -> str:
        return f"{source.random():.3f},{'rare' if number in (3, 4) else source.choice(['', 'a', 'b'])}"

    found = guess_file(write_table(tmp_path / "t.csv", "x,y", row), "y")
    missing = found.label.missing
    assert missing > 40
    assert found.warnings == [
        f"{missing} rows without a value of y, to be left out",
        "a class of y with too few rows to learn, to be left out: rare (2 rows)",
    ]
    document = found.to_dict()
    assert document["warnings"] == found.warnings
    assert document["dropped"] == {"rows_without_label": missing, "classes": {"rare": 2}}


def test_rare_classes_of_images_are_reported(tmp_path: Path) -> None:
    for name, number in (("cat", 12), ("dog", 12), ("emu", 2)):
        (tmp_path / "in" / name).mkdir(parents=True)
        for index in range(number):
            Image.new("L", (8, 8), index).save(tmp_path / "in" / name / f"{index}.png")
    assert guess_file(tmp_path / "in").warnings == [
        "a class of label with too few rows to learn, to be left out: emu (2 rows)"
    ]
