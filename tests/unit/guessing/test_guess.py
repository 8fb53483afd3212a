"""Many small tables, and the job file that fits each of them."""

from __future__ import annotations

import gzip
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from farandole.errors import DataError, SpecError
from farandole.guessing.guess import Guess, guess, job_name, look
from farandole.guessing.job_text import MAX_LINES, job_text, write_job_file
from farandole.spec import CsvSource, Job, load_job
from tests.support.odd_tables import Row, write_table


def _guess(path: Path, label: str | None = None, **options: Any) -> Guess:
    return guess(look(str(path)), label=label, **options)


def _job(path: Path, label: str | None = None) -> Job:
    return load_job(write_job_file(_guess(path, label), path.parent / "job", force=True))


def _kinds(found: Guess) -> dict[str, str]:
    return {feature.column: feature.spec["kind"] for feature in found.features}


def _left_out(found: Guess) -> dict[str, str]:
    return {entry.column: entry.reason for entry in found.left_out}


def _two(source: random.Random, number: int) -> str:
    return f"{source.random():.3f},{source.choice('ab')}"


# Columns ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (lambda source, _: f"{source.random():.3f}", "numeric"),
        (lambda source, _: f"{source.randint(1, 5)}", "numeric"),
        (lambda source, _: f"{source.random():.2f}0", "numeric"),  # 0.120 is a spelling that no type keeps
        (lambda source, _: f"{source.randint(1, 9)}E2", "numeric"),
        (lambda source, _: f"${source.randint(1, 9)},{source.randint(100, 999)}.50", "numeric"),
        (lambda source, _: f"{source.randint(1, 99)}%", "numeric"),
        (lambda source, _: f"{source.randint(1, 40):05d}", "categorical"),  # codes with leading zeros
        (lambda source, _: source.choice(["Oslo", "Rom", "Wien"]), "categorical"),
        (lambda source, _: source.choice(["TRUE", "False", "true"]), "categorical"),
        (lambda _, number: f"2024-{1 + number % 12:02d}-{1 + number % 28:02d}", "time"),
        (lambda _, number: f"{1 + number % 12}/{1 + number % 28}/2024", "time"),
        (lambda _, number: f"{1 + number % 28}.{1 + number % 12}.2024", "time"),
        (lambda _, number: f"{1 + number % 28:02d}-Jan-2024 {number % 24:02d}:00", "time"),
        (lambda source, _: " ".join(source.choice(["good", "bad", "plot", "film"]) for _ in range(20)), "text"),
    ],
    ids=range(14),
)
def test_column_becomes_a_feature(tmp_path: Path, row: Row, kind: str) -> None:
    path = write_table(
        tmp_path / "t.csv", "y,x", lambda source, number: f'{source.choice("ab")},"{row(source, number)}"'
    )
    assert _kinds(_guess(path, "y")) == {"x": kind}


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("rownames", lambda _, number: str(number + 1), "numbers the rows"),
        ("Unnamed: 0", lambda _, number: str(number), "numbers the rows"),
        ("customer_id", lambda _, number: str(900_000 + number * 7 % 1000), "an id"),
        ("userId", lambda _, number: str(5_000 - number), "an id"),
        ("constant", lambda *_: "7", "every value is 7"),
        ("empty", lambda *_: "", "all values are missing"),
        ("rare", lambda _, number: "3" if number == 5 else "", "of the values are missing"),
        ("name", lambda _, number: f"Name {number}", "almost every row has another text"),
        ("account", lambda _, number: str(12_345_678_901_234_567_890 + number), "almost every row has another text"),
    ],
)
def test_column_is_left_out_for_a_reason(tmp_path: Path, name: str, row: Row, reason: str) -> None:
    path = write_table(
        tmp_path / "t.csv", f"y,x,{name}", lambda source, number: f"{_two(source, number)[::-1]},{row(source, number)}"
    )
    found = _guess(path, "y")
    assert reason in _left_out(found)[name]
    assert name not in _kinds(found)


def test_numbers_with_gaps_get_an_indicator(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv", "x,y", lambda source, _: f"{source.choice(['NA', '1.5', '2.5'])},{source.choice('ab')}"
    )
    feature = _guess(path, "y").features[0]
    assert feature.spec == {"kind": "numeric", "scale": "robust_smooth", "indicator": True}
    assert "missing" in feature.note


def test_names_become_identifiers_that_differ(tmp_path: Path) -> None:
    header = "a.b,a b,A_B,1x,label,größe,y"
    path = write_table(
        tmp_path / "t.csv", header, lambda source, _: ",".join(f"{source.random():.3f}" for _ in range(7))
    )
    found = _guess(path, "y")
    assert [feature.column for feature in found.features] == ["a.b", "a b", "A_B", "1x", "label", "größe"]
    names = [feature.name for feature in found.features]
    assert all(name.isidentifier() and name.isascii() for name in names)
    assert len({name.lower() for name in names}) == len(names)
    assert "label" not in names
    features = _job(path, "y").data.features
    assert [feature.column or name for name, feature in features.items()] == header.split(",")[:-1]


def test_names_differ_from_those_of_columns_that_features_make(tmp_path: Path) -> None:
    """Rename a column called like the indicator of another, whichever comes first; else the job would be refused."""
    header = "x,x_missing,z_missing,z,y"

    def row(source: Any, _: int) -> str:
        gaps = [source.choice(["", "1.5", "2.5"]) for _ in range(2)]
        numbers = [f"{source.random():.3f}" for _ in range(2)]
        return f"{gaps[0]},{numbers[0]},{numbers[1]},{gaps[1]},{source.choice('ab')}"

    path = write_table(tmp_path / "t.csv", header, row)
    features = _job(path, "y").data.features  # it is valid
    assert [feature.column or name for name, feature in features.items()] == header.split(",")[:-1]
    assert [*features] == ["x", "x_missing_2", "z_missing", "z_2"]


# Null values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["NA", "N/A", "?", "-", "null", "None", "nan", ".", "-999", "#N/A"])
def test_null_value_among_numbers_is_found(tmp_path: Path, text: str) -> None:
    path = write_table(
        tmp_path / "t.csv", "x,y", lambda source, _: f"{source.choice([text, '1.5', '2.5'])},{source.choice('ab')}"
    )
    found = _guess(path, "y")
    assert found.source["null_values"] == [text]
    assert _kinds(found) == {"x": "numeric"}
    source = _job(path, "y").data.sources["data"]
    assert isinstance(source, CsvSource)
    assert source.null_values == (text,)


def test_number_that_other_numbers_surround_is_not_a_null_value(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv", "x,y", lambda source, _: f"{source.randint(-1100, -900)},{source.choice('ab')}"
    )
    assert "null_values" not in _guess(path, "y").source


def test_code_of_namibia_is_not_a_null_value(tmp_path: Path) -> None:
    codes = ["NA", *(f"{first}{second}" for first in "ABCDE" for second in "FGHIJKL")]
    path = write_table(tmp_path / "t.csv", "x,y", lambda source, _: f"{source.choice(codes)},{source.choice('ab')}")
    assert "null_values" not in _guess(path, "y").source


def test_word_for_none_is_a_category_among_words(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv", "x,y", lambda source, _: f"{source.choice(['None', 'brick'])},{source.choice('ab')}"
    )
    assert "null_values" not in _guess(path, "y").source


# Labels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (lambda source, _: source.choice(["Yes", "No"]), {"kind": "binary", "positive": "Yes"}),
        (lambda source, _: source.choice(["good", "bad"]), {"kind": "binary", "positive": "bad"}),
        (lambda source, _: source.choice(["yes", "Yes", "NO"]), {"kind": "binary"}),
        (lambda source, _: source.choice("01"), {"kind": "binary"}),
        (lambda source, _: source.choice(["true", "false"]), {"kind": "binary"}),
        (lambda source, _: source.choice("abcd"), {"kind": "multiclass"}),
        (lambda source, _: str(source.randint(3, 8)), {"kind": "multiclass"}),
        (lambda source, _: f"{source.randint(3, 8)}.0", {"kind": "multiclass"}),
        (lambda source, _: source.choice("468"), {"kind": "multiclass"}),
        (lambda source, _: source.choice(["0", "1", "2", "3", "7", "12"]), {"kind": "regression"}),
        (lambda source, _: str(source.randint(0, 500)), {"kind": "regression"}),
        (lambda source, _: f"{source.random():.4f}", {"kind": "regression"}),
        (lambda source, _: f"€{source.randint(10, 999)}.90", {"kind": "regression"}),
    ],
    ids=range(13),
)
def test_kind_of_the_label_follows_from_its_values(tmp_path: Path, row: Row, expected: dict[str, str]) -> None:
    path = write_table(
        tmp_path / "t.csv", "x,target", lambda source, number: f"{source.random():.3f},{row(source, number)}"
    )
    found = _guess(path)
    assert found.label.spec == {"column": "target"} | expected
    assert _job(path, "target").data.label is not None


@pytest.mark.parametrize(
    ("header", "label"),
    [
        ("target,a,b", "target"),
        ("a,b,churn", "churn"),
        ("a,price,b", "price"),
        ("rownames,a,b", "b"),
        ("a,b,user_id", "b"),
    ],
)
def test_label_is_guessed_by_name_or_position(tmp_path: Path, header: str, label: str) -> None:
    def row(source: random.Random, number: int) -> str:
        ids = {"rownames", "user_id"}
        return ",".join(str(number + 1) if name in ids else f"{source.random():.3f}" for name in header.split(","))

    found = _guess(write_table(tmp_path / "t.csv", header, row))
    assert found.label.column == label
    assert set(found.label.alternatives) == set(header.split(",")) - {label, "rownames", "user_id"}


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("prize", r"--label prize: there is no such column; did you mean price\?"),
        ("constant", r"--label constant: every value is 1; choose a column with different values"),
        ("name", r"--label name: 60 different texts in 60 rows are neither classes nor numbers"),
        ("rare", r"--label rare: the class 'b' has 2 rows, too few to train, to validate and to test"),
    ],
)
def test_column_that_cannot_be_the_label_is_refused(tmp_path: Path, label: str, message: str) -> None:
    path = write_table(
        tmp_path / "t.csv",
        "price,constant,name,rare",
        lambda source, number: f"{source.random():.3f},1,name {number},{'ab'[number < 2]}",
        60,
    )
    with pytest.raises(DataError, match=message):
        _guess(path, label)


def test_rows_without_a_label_and_rare_classes_are_left_out_by_a_query(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv",
        "x,y",
        lambda source, number: (
            f"{source.random():.3f},{'it' + chr(39) + 's' if number < 2 else source.choice(['', 'a', 'b'])}"
        ),
    )
    query = _job(path, "y").data.query
    assert query == "SELECT *\nFROM data\nWHERE `y` IS NOT NULL AND `y` NOT IN ('it\\'s')\n"


# Splits -------------------------------------------------------------------------------------------------------


def test_rows_in_the_order_of_time_are_split_by_it(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv",
        "when,x,y",
        lambda source, number: f"{np.datetime64('2024-01-01') + number},{_two(source, number)}",
    )
    found = _guess(path, "x")
    assert found.split.time == "when"
    assert _job(path, "x").data.split.time == "when"
    assert [feature.name for feature in found.features if feature.column == "when"] == ["when"]  # the trend ends


def test_rows_of_one_patient_stay_together(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv", "patient_id,x,y", lambda source, number: f"p{number % 60},{_two(source, number)}", 600
    )
    found = _guess(path, "y")
    assert found.split.spec["by"] == ["patient_id"]
    assert "names the groups" in _left_out(found)["patient_id"]
    assert _job(path, "y").data.split.by == ("patient_id",)


def test_stations_are_a_category_and_not_groups(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv", "station_id,x,y", lambda source, number: f"{number % 60},{_two(source, number)}", 600
    )
    found = _guess(path, "y")
    assert found.split.group is None
    assert _kinds(found)["station_id"] == "categorical"


def test_few_rows_leave_more_to_test_with(tmp_path: Path) -> None:
    assert _guess(write_table(tmp_path / "few.csv", "x,y", _two, 60), "y").split.spec["test"] == 0.2
    assert _guess(write_table(tmp_path / "many.csv", "x,y", _two, 600), "y").split.spec["test"] == 0.1


# Leaks --------------------------------------------------------------------------------------------------------


def test_column_that_alone_predicts_the_label_is_a_leak(tmp_path: Path) -> None:
    def row(source: random.Random, number: int) -> str:
        label = source.randint(0, 1)
        return (
            f"{source.random() + label:.3f},{label * 3},{'uv'[label]},{source.random() + 0.1 * label:.3f},{'ab'[label]}"
        )

    path = write_table(tmp_path / "t.csv", "near,copy,word,weak,y", row, 400)
    found = _guess(path, "y")
    assert {leak.column for leak in found.leaks} == {"near", "copy", "word"}
    assert "leak the label" in job_text(found, tmp_path)


def test_number_in_another_unit_is_a_leak(tmp_path: Path) -> None:
    def row(source: random.Random, number: int) -> str:
        celsius = source.uniform(-10, 40)
        return f"{celsius * 1.8 + 32:.4f},{source.random():.3f},{celsius:.4f}"

    assert [leak.column for leak in _guess(write_table(tmp_path / "t.csv", "f,x,c", row, 2000), "c").leaks] == ["f"]


# Files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "header", "separator", "encoding", "source"),
    [
        ("a.csv", "x;y", ";", "utf-8", {"separator": ";"}),
        ("a.tsv", "x\ty", "\t", "utf-8", {"separator": "\t"}),
        ("a.txt", "x|y", "|", "utf-8", {"separator": "|"}),
        ("a.csv", "größe,y", ",", "latin-1", {"encoding": "cp1252"}),
        ("a.csv", "größe,y", ",", "utf-16", {"encoding": "utf-16"}),
        ("a.csv", "x,y", ",", "utf-8-sig", {}),
        ("a.csv", "", ",", "utf-8", {"header": False}),
    ],
)
def test_text_file_is_read_as_it_is_written(
    tmp_path: Path, name: str, header: str, separator: str, encoding: str, source: dict[str, Any]
) -> None:
    path = write_table(
        tmp_path / name,
        header,
        lambda random, _: f"{random.random():.3f}{separator}{random.choice('ab')}",
        encoding=encoding,
    )
    found = _guess(path)
    assert found.source == {"format": "csv"} | source
    assert found.rows == 200
    assert len(found.features) == 1
    job = _job(path)
    assert job.data.label is not None
    assert job.data.label.kind == "binary"


def test_compressed_files_are_read(tmp_path: Path, farandole_home: Path) -> None:
    text = write_table(tmp_path / "t.csv", "x,y", _two).read_bytes()
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text))
    with zipfile.ZipFile(tmp_path / "t.csv.zip", "w") as archive:
        archive.writestr("inside.csv", text)
    for name in ("t.csv.gz", "t.csv.zip"):
        found = _guess(tmp_path / name, "y")
        assert (found.name, found.rows, _kinds(found)) == ("t", 200, {"x": "numeric"})


def test_decimal_commas_become_numbers_by_a_query(tmp_path: Path) -> None:
    def row(source: random.Random, _: int) -> str:
        return f"{source.randint(1, 9)}.{source.randint(100, 999)},5;{source.choice('ab')}"

    path = write_table(tmp_path / "t.csv", "preis;ort", row)
    found = _guess(path, "ort")
    assert _kinds(found) == {"preis": "numeric"}
    assert found.query is not None
    assert "replace(regexp_replace(`preis`, '[^0-9,+-]', ''), ',', '.')" in found.query


def test_rows_that_cannot_be_read_are_dropped_and_mentioned(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv", "x,y", lambda source, number: "1,2,3" if number == 50 else _two(source, number)
    )
    found = _guess(path, "y")
    assert found.source["malformed"] == "drop"
    assert found.notes == ("1 row cannot be read, to be left out (t.csv: line 52: wrong number of fields)",)


def test_parquet_and_json_are_read(tmp_path: Path) -> None:
    rows = [
        {"x": n / 3, "word": "uv"[n % 2], "when": f"2024-01-{1 + n % 28:02d}", "y": n % 3 == 0, "part": {"a": 1}}
        for n in range(90)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "array.json").write_text(json.dumps(rows))
    for name in ("t.parquet", "t.jsonl"):
        found = _guess(tmp_path / name, "y")
        assert {"x": "numeric", "word": "categorical"}.items() <= _kinds(found).items()
        assert "select its parts" in _left_out(found)["part"]
        assert found.label.kind == "binary"
    assert _kinds(_guess(tmp_path / "t.jsonl", "y"))["when"] == "time"


def test_columns_of_directories_become_features(tmp_path: Path) -> None:
    for year in (2023, 2024):
        write_table(tmp_path / "in" / f"year={year}" / "t.csv", "x,y", _two)
    found = _guess(tmp_path / "in", "y")
    assert found.rows == 400
    assert _kinds(found) == {"x": "numeric", "year": "numeric"}


def test_folders_of_images_become_classes(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(12):
            Image.new("L", (30, 20), number).save(tmp_path / "in" / name / f"{number}.png")
    found = _guess(tmp_path / "in")
    assert found.label.spec == {"column": "label", "kind": "binary"}
    assert found.features[0].spec == {"kind": "image", "size": [20, 30], "mode": "gray"}
    assert found.builder == "farandole.models.cnn:build"
    assert load_job(write_job_file(found, tmp_path / "job")).network.builder == "farandole.models.cnn:build"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; give a file with a header and rows"),
        (b"\n\n", "is empty"),
        (b"x,y\n", "holds no rows below its header"),
        (bytes(range(256)), "is not text; give a CSV, Parquet or JSON file, or a folder of images"),
        (b"x,x,y\n1,2,3\n", "the header names x twice"),
        (b"y\n" + b"".join(b"%d.5\n" % number for number in range(50)), "no column is left to predict y from"),
        (b"x,y\n" + b"1.5,2.5\n2.5,3.5\n" * 4, "--label y: 8 rows have one, too few to train"),
        (b"x,y\n" + b"1,2,3\n" * 20, "line 2: wrong number of fields"),
        (b"PAR1 but no more", "is not a whole Parquet file"),
    ],
    ids=["empty", "blank", "header", "binary", "twice", "one column", "few rows", "fields", "parquet"],
)
def test_file_without_a_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    if content.startswith(b"PAR1"):
        (tmp_path / "t.csv").rename(tmp_path / "t")
    with pytest.raises(DataError, match=message):
        _guess(next(tmp_path.iterdir()))


def test_folder_of_several_formats_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", "x,y", _two)
    (tmp_path / "b.json").write_text('{"x": 1}\n')
    with pytest.raises(DataError, match=r"several formats: csv \(a.csv\) and json \(b.json\); name one"):
        _guess(tmp_path)


# Job files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 10, 40, 500])
def test_job_file_has_at_most_sixty_lines(tmp_path: Path, columns: int) -> None:
    header = ",".join([*(f"a rather long name {number}" for number in range(columns)), "y"])
    path = write_table(
        tmp_path / "t.csv", header, lambda source, _: ",".join(f"{source.random():.3f}" for _ in range(columns + 1))
    )
    found = _guess(path, "y", kind="regression")
    text = job_text(found, tmp_path)
    assert len(text.splitlines()) <= MAX_LINES
    assert len(found.features) == columns
    job = _job(path, "y")
    assert len(job.data.features) == columns or job.data.auto_features is not None


@pytest.mark.parametrize(
    "name", ["no", "on", "null", "12", "a: b", "# x", "'", '"', "{", "*a", "größe", "tab\there", "%", "- a"]
)
def test_any_name_survives_the_job_file(tmp_path: Path, name: str) -> None:
    table = pa.table({name: np.random.default_rng(0).random(60), "y": ["a", "b"] * 30})
    pq.write_table(table, tmp_path / "t.parquet")
    job = _job(tmp_path / "t.parquet", "y")
    assert [feature.column or key for key, feature in job.data.features.items()] == [name]
    swapped = table.rename_columns(["x", name])
    pq.write_table(swapped, tmp_path / "t.parquet")
    label = _job(tmp_path / "t.parquet", name).data.label
    assert label is not None
    assert label.column == name


def test_job_file_is_not_replaced_unless_forced(tmp_path: Path) -> None:
    found = _guess(write_table(tmp_path / "t.csv", "x,y", _two), "y")
    path = write_job_file(found, tmp_path / "job")
    with pytest.raises(SpecError, match=r"exists already; add --force to replace it"):
        write_job_file(found, tmp_path / "job")
    assert write_job_file(found, tmp_path / "job", force=True) == path


def test_job_file_does_not_go_into_the_folder_of_the_data(tmp_path: Path) -> None:
    write_table(tmp_path / "in" / "t.csv", "x,y", _two)
    with pytest.raises(SpecError, match="is in the folder of the data, all of whose files are read"):
        write_job_file(_guess(tmp_path / "in", "y"), tmp_path / "in" / "job")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/My Data (2).csv", "my-data-2"),
        ("/a/flights.csv.zip", "flights"),
        ("/a/b/*.parquet", "b"),
        ("/a/größe.csv", "grosse"),
        ("/a/___.csv", "job"),
    ],
)
def test_job_is_named_like_its_data(path: str, name: str) -> None:
    assert job_name(path) == name


def test_same_files_give_the_same_guesses(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", "x,y", _two)
    assert job_text(_guess(path), tmp_path) == job_text(_guess(path), tmp_path)


def test_first_column_without_a_name_is_not_used(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "r.csv", '"","speed","y"', lambda source, number: f'"{number + 1}",{_two(source, number)}'
    )
    assert _kinds(_guess(path, "y")) == {"speed": "numeric"}
    assert list(_job(path, "y").data.features) == ["speed"]


def test_json_array_is_read_like_lines(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps([{"x": number / 3, "y": number % 2 == 0} for number in range(60)]))
    assert _kinds(_guess(tmp_path / "t.json", "y")) == {"x": "numeric"}


def test_infinite_numbers_are_read_as_missing(tmp_path: Path) -> None:
    numbers = [float("inf") if number == 3 else number / 4 for number in range(60)]
    pq.write_table(pa.table({"x": numbers, "y": ["a", "b"] * 30}), tmp_path / "t.parquet")
    found = _guess(tmp_path / "t.parquet", "y")
    assert found.features[0].spec["indicator"]
    assert found.query is not None
    assert "IF(abs(`x`) = DOUBLE('Infinity'), NULL, `x`) AS `x`" in found.query
    path = write_table(tmp_path / "t.csv", "x,y", lambda source, n: "inf,a" if n == 3 else _two(source, n))
    assert _guess(path, "y").source["null_values"] == ["inf"]
