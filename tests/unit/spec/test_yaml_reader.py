"""Job files as people write them: odd column names, other YAML dialects, other encodings, and faults of every kind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from farandole.errors import SpecError
from farandole.spec import CsvSource, Job, load_job
from farandole.spec.yaml_reader import read_yaml

_JOB = """\
name: t
data:
  sources:
    d: {path: d.csv, columns: {x: double, y: string}}
  features:
    x: {kind: numeric}
  label: {column: y, kind: binary}
"""
_FOREIGN = re.compile(
    r"input should|\[key\]|<(block|stream|document)|pydantic|NoneType|yaml\.|Unable to", re.IGNORECASE
)
"""Words of the libraries that read job files."""


def _load(folder: Path, text: str | bytes) -> Job:
    path = folder / "job.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_job(path)


def _problem(folder: Path, text: str | bytes) -> str:
    with pytest.raises(SpecError) as caught:
        _load(folder, text)
    return str(caught.value).replace(f"{folder}/", "")


# Texts that YAML 1.1 reads as something else ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["on", "no", "off", "yes", "null", "true", "Null", "NO"])
def test_column_may_be_called_like_a_constant_of_yaml(tmp_path: Path, name: str) -> None:
    job = _load(tmp_path, _JOB.replace("x: {", f"{name}: {{").replace("x: double", f"{name}: double"))
    assert list(job.data.features) == [name]
    source = job.data.sources["d"]
    assert isinstance(source, CsvSource)
    assert source.columns == {name: "double", "y": "string"}


@pytest.mark.parametrize("name", ["2013", "1.5", "1e3", "~", "010", "12:30", "2013-01-31"])
def test_column_may_be_called_like_a_number(tmp_path: Path, name: str) -> None:
    job = _load(tmp_path, _JOB.replace("kind: numeric", f"kind: numeric, column: {name}"))
    assert job.data.features["x"].column == (None if name == "~" else name)
    source = _load(tmp_path, _JOB.replace("x: double", f"{name}: double")).data.sources["d"]
    assert isinstance(source, CsvSource)
    assert source.columns == {name: "double", "y": "string"}


def test_null_values_are_the_texts_as_written(tmp_path: Path) -> None:
    job = _load(
        tmp_path, _JOB.replace("d.csv", "d.csv, null_values: [-999, NA, NaN, null, no, 12:30, 010, -1.50, 1e3]")
    )
    source = job.data.sources["d"]
    assert isinstance(source, CsvSource)
    assert source.null_values == ("-999", "NA", "NaN", "null", "no", "12:30", "010", "-1.50", "1e3")


@pytest.mark.parametrize(
    ("written", "expected"),
    [("no", "no"), ("yes", "yes"), ("On", "On"), ("1", "1"), ("010", "010"), ("true", True), ("'true'", "true")],
)
def test_positive_class_is_the_text_as_written(tmp_path: Path, written: str, expected: object) -> None:
    label = _load(tmp_path, _JOB.replace("kind: binary", f"kind: binary, positive: {written}")).data.label
    assert label is not None
    assert label.positive == expected
    assert type(label.positive) is type(expected)


def test_options_take_the_same_texts(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(_JOB)
    job = load_job(path, ["data.label.positive=no", "data.sources.d.null_values=[-999, 010]"])
    source = job.data.sources["d"]
    assert isinstance(source, CsvSource)
    assert source.null_values == ("-999", "010")
    assert job.data.label is not None
    assert job.data.label.positive == "no"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("no", False), ("off", False), ("false", False), ("yes", True), ("on", True), ("True", True)],
)
def test_switch_accepts_all_words_for_true_and_false(tmp_path: Path, text: str, expected: bool) -> None:
    source = _load(tmp_path, _JOB.replace("d.csv", f"d.csv, header: {text}")).data.sources["d"]
    assert isinstance(source, CsvSource)
    assert source.header is expected


def test_options_of_a_builder_keep_their_types() -> None:
    found = read_yaml("model: {options: {columns: [1, 2], name: 3, eps: 1e-8, n: 10_000}}", "job").value
    assert found == {"model": {"options": {"columns": [1, 2], "name": 3, "eps": 1e-8, "n": 10_000}}}


# Encodings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_encodings_of_editors_are_read(tmp_path: Path, encoding: str, line_end: str) -> None:
    text = _JOB.replace("path: d.csv", "path: größe.csv").replace("\n", line_end)
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    job = _load(tmp_path, (mark + text).encode(encoding))
    assert job.data.sources["d"].path.endswith("größe.csv")


def test_other_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    text = _JOB.replace("path: d.csv", "path: größe.csv").encode("latin-1")
    assert _problem(tmp_path, text) == "job.yaml: line 4: byte 0xf6 is not UTF-8 text; save the file as UTF-8"


# Faults -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "job.yaml: is empty; start with `name: my-job`"),
        ("# nothing\n", "job.yaml: is empty; start with `name: my-job`"),
        ("just words", "job.yaml: holds a text, not fields; start with `name: my-job`"),
        ("name: t\ndata:\n\tsources: {}\n", "line 3: sources: {}: a tab indents it; indent with spaces"),
        (f"{_JOB}data: {{}}\n", "line 8: the key `data` is written twice; remove one (the other is on line 2)"),
        (f"{_JOB}    y: 1\n", "line 8: y: 1: the indentation or a bracket is wrong"),
        (_JOB.replace("name: t", "name: a: b"), "line 1: name: a: b: a `:` is out of place; put the text in quotes"),
        (_JOB.replace("name: t", "name: @t"), "line 1: name: @t: no value can begin with `@`; put it in quotes"),
        (_JOB.replace("name: t", "name: 't"), "line 1: name: 't: a quote is not closed; close it"),
        (_JOB.replace("name: t", "name: *t"), "line 1: name: *t: the alias has no anchor"),
        (_JOB.replace("name: t", "name: !mine t"), "line 1: the tag !mine is not known; remove it"),
        (f"{_JOB}---\n{_JOB}", "line 8: ---: a second document begins; put each job in a file of its own"),
        (_JOB.replace("name: t", "name: &a [*a]"), "line 1: the anchored value contains an alias of itself"),
        (_JOB.replace("name: t", "name: " + "[" * 5000), "is nested too deeply for a job file"),
        (_JOB.replace("kind: numeric", "kind: numeric, impute: []"), "data.features.x.impute: []: must be a number"),
        (_JOB.replace("x: {kind: numeric}", "x y: numeric"), "data.features: 'x y' is not a name of letters, digits"),
        (
            _JOB.replace("x: {kind: numeric}", "x:"),
            "x: is empty; write a value, or remove the field (line 6)",
        ),
        (
            _JOB.replace("path: d.csv", "format: csv, path: [d.csv]"),
            "path: ['d.csv']: must be text; put it in",
        ),
    ],
    ids=range(18),
)
def test_fault_is_named_with_line_value_and_remedy(tmp_path: Path, text: str, problem: str) -> None:
    found = _problem(tmp_path, text)
    assert problem in found
    assert not _FOREIGN.search(found)


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 8))
    assert "holds more than 100,000 values" in _problem(tmp_path, "a0: &a0 [1]\n" + levels)


def test_line_of_a_field_that_an_option_sets_is_not_named(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(f"{_JOB}train:\n  epochs: 3\n")
    with pytest.raises(SpecError, match=r"train.epochs: 0: must be at least 1$"):
        load_job(path, ["train.epochs=0"])
    path.write_text(f"{_JOB}train:\n  epochs: 0\n")
    with pytest.raises(SpecError, match=r"train.epochs: 0: must be at least 1 \(line 9\)$"):
        load_job(path)


_PLACES = ("name: t", "x: {kind: numeric}", "kind: binary", "path: d.csv", "column: y")
_SCALARS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=12),
    st.sampled_from(
        ["null", "no", "1e400", "-999", ".nan", "[", "{a: [", "*a", "&a [*a]", "!!set {a}", "|", "<<", "? a"]
    ),
    st.integers().map(str),
    st.floats().map(str),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=_SCALARS, place=st.sampled_from(["name: t", "x: {kind: numeric}", "kind: binary", "path: d.csv", "column: y"])
)
@example(value="\x00", place="name: t")
@example(value="9" * 5000, place="x: {kind: numeric}")
def test_any_scalar_is_read_or_refused_in_plain_words(tmp_path: Path, value: str, place: str) -> None:
    text = _JOB.replace(place, f"{place.partition(':')[0]}: {value}")
    try:
        _load(tmp_path, text)
    except SpecError as error:
        for line in str(error).splitlines():
            assert line.startswith(f"{tmp_path}/job.yaml: ")
            assert not _FOREIGN.search(line.replace(value, ""))


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=12))
def test_quoted_text_is_read_as_it_is(text: str) -> None:
    quoted = "'" + text.replace("'", "''") + "'"
    found: Any = read_yaml(f"a: {quoted}", "job").value
    assert found == {"a": text}
