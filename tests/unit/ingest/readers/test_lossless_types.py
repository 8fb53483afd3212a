"""A guessed type gives back every text of its column exactly, or the column stays text."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farandole.ingest.readers.lossless_types import NUMBER, choose_type, common_spellings, find_spellings
from farandole.preprocess.text_types import convert_text
from farandole.preprocess.values import as_text

FUZZ = settings(max_examples=400, derandomize=True, deadline=None)

GUESSES: dict[str, list[list[str | None]]] = {
    "bigint": [["0", "-5", "501"], ["9007199254740993"], ["9223372036854775807"], [None, "7"], [None]],
    "double": [
        ["1", "1.5"],
        ["1.0", "-2.5"],
        ["0.1", "1e-05"],
        ["999999999999999", "0.5"],
        ["1e+20", "0.5"],
        ["1e+16"],
        ["-1e+16", "2.5"],
    ],
    "boolean": [["true", "false"], ["True", "False"], ["TRUE"]],
    "date": [["2013-01-05"], ["0001-01-01", "9999-12-31"]],
    "timestamp": [
        ["2013-01-05 10:00:00"],
        ["2013-01-05T10:00:00Z"],
        ["2013-01-05T10:00:00+00:00", "2013-01-05T10:00:00.123456+00:00"],
        ["2013-01-05 10:00"],
        ["2013-01-05 10:00:00.12", "2013-01-05 10:00:00.50"],
        ["2013-01-05 10:00:00", "2013-01-05 10:00:00.5"],
    ],
    "string": [
        ["00501"],
        ["007.5"],
        ["1.10"],
        ["1", "1.0"],
        ["1E2"],
        ["1e2"],
        ["1D"],
        ["1f"],
        ["12345678901234567890"],
        ["9223372036854775808"],
        ["9007199254740993", "1.5"],
        ["+5"],
        [" 5"],
        ["5 "],
        ["-0"],
        ["-0.0"],
        [".5"],
        ["5."],
        ["1_000"],
        ["0x1F"],
        ["Infinity"],
        ["inf"],
        ["NaN"],
        ["nan"],
        ["1e999"],
        ["1e+15"],
        ["1.5e+15"],
        ["tRUE"],
        ["true", "False"],
        ["yes"],
        ["t"],
        ["2013-1-5"],
        ["2013-02-30"],
        ["0000-01-01"],
        ["2013-01-05", "2013-01-05 00:00:00"],
        ["2013-01-05 10:00:00", "2013-01-05T11:00:00"],
        ["2013-01-05 10:00:00", "2013-01-05 11:00:00Z"],
        ["2013-01-05T10:00:00+02:00"],
        ["2013-01-05 10:00:00.1234567"],
        ["2013-01-05 10:00:00.5", "2013-01-05 10:00:00.50"],
        ["2013-01-05 10"],
        ["20130105T100000"],
        ["\uff11"],
        ["x"],
    ],
}


@pytest.mark.parametrize("kind", GUESSES)
def test_type_is_the_narrowest_that_keeps_every_text(kind: str) -> None:
    found = {tuple(texts): choose_type(find_spellings(pa.array(texts, pa.string()))) for texts in GUESSES[kind]}
    assert found == dict.fromkeys(found, kind)


NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.integers(-200, 200).map(str),
    st.floats().map(repr),
    st.floats(-1e6, 1e6).map(lambda number: f"{number:.2f}"),
    st.floats().map(lambda number: f"{number:g}"),
    st.from_regex(r"[+-]?[0-9]{0,4}\.?[0-9]{0,3}([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)
TIMES = st.one_of(
    st.dates().map(str),
    st.datetimes().map(str),
    st.datetimes().map(lambda time: time.isoformat()),
    st.datetimes().map(lambda time: time.isoformat(timespec="seconds") + "Z"),
    st.datetimes().map(lambda time: time.isoformat(timespec="milliseconds") + "+00:00"),
    st.from_regex(r"2013-0[1-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9](:[0-6][0-9](\.[0-9]{1,7})?)?(Z|[+]0[01]:00)?"),
)
WORDS = st.sampled_from(["true", "false", "True", "False", "TRUE", "FALSE", "t", "yes", "0", "1", "nan", "0x1F", "1D"])
COLUMNS = st.one_of(
    *(st.lists(st.none() | texts, min_size=1, max_size=6) for texts in (NUMBERS, TIMES, WORDS, st.text(max_size=4))),
    st.lists(st.one_of(st.none(), NUMBERS, TIMES, WORDS), min_size=1, max_size=4),
    NUMBERS.map(lambda text: [text, f"0{text}", f"{text}0"]),
)


@FUZZ
@given(texts=COLUMNS, seed=st.integers(0, 2**32))
def test_guessed_type_gives_back_every_text_exactly(texts: list[str | None], seed: int) -> None:
    column = pa.array([text if text else None for text in texts], pa.string())  # an empty field is missing
    cut = random.Random(seed).randint(0, len(texts))
    spellings = common_spellings([find_spellings(column[:cut]), find_spellings(column[cut:])])
    kind = choose_type(spellings)
    values, wrong = convert_text(column, kind)
    assert wrong is None
    assert any(written(values, style) == column.to_pylist() for style in STYLES[kind]), (kind, values.to_pylist())
    # Two texts never become one category.
    assert len(set(as_text("c", values).to_pylist())) == len(set(column.to_pylist()))


def time_styles() -> list[Any]:
    """Return the functions that write a timestamp in one of the shapes that are recognised."""

    def style(sign: str, zone: str, precision: str, digits: int | None) -> Any:
        def write(value: Any) -> str:
            text = value.replace(tzinfo=None).isoformat(sign, precision)
            return (text if digits is None else text[: 19 + digits + (digits > 0)]) + zone

        return write

    def short(sign: str, zone: str) -> Any:
        exact = style(sign, "", "microseconds", None)
        return lambda value: exact(value).rstrip("0").removesuffix(".") + zone

    precisions = [("minutes", None), ("auto", None), *(("microseconds", digits) for digits in range(7))]
    ends = [(sign, zone) for sign in " T" for zone in ("", "Z", "+00:00")]
    return [style(*end, *precision) for end in ends for precision in precisions] + [short(*end) for end in ends]


STYLES: dict[str, list[Any]] = {
    "bigint": [str],
    "double": [repr, lambda value: repr(value).removesuffix(".0")],
    "boolean": [lambda value: str(value).lower(), str, lambda value: str(value).upper()],
    "date": [str],
    "string": [str],
    "timestamp": time_styles(),
}
"""Functions that write the value of a type as text: every column is written in one of these styles."""


def written(values: pa.Array, write: Any) -> list[str | None]:
    return [None if value is None else write(value) for value in values.to_pylist()]


@pytest.mark.parametrize(
    ("texts", "is_number"),
    [(["1.10", "2"], True), (["+5"], True), (["1E2"], True), (["00501"], False), (["9" * 20], False)],
)
def test_plain_numbers_are_recognised_although_no_type_keeps_them(texts: list[str], is_number: bool) -> None:
    assert (NUMBER in (find_spellings(pa.array(texts)) or ())) == is_number


def test_column_becomes_what_its_uses_need_only_if_it_would_be_text() -> None:
    assert choose_type(find_spellings(pa.array(["1.10"])), "double") == "double"
    assert choose_type(find_spellings(pa.array(["1", "2"])), "double") == "bigint"
    assert choose_type(find_spellings(pa.array(["9.50", "10.20"])), NUMBER) == "double"
    assert choose_type(find_spellings(pa.array(["00501"])), NUMBER) == "string"
    assert choose_type(find_spellings(pa.array(["2013-01-05"])), "timestamp") == "date"
    assert choose_type(find_spellings(pa.array(["2013-01-05T10:00:00+02:00"])), "timestamp") == "timestamp"


def test_declared_pattern_makes_a_timestamp() -> None:
    patterns = {"timestamp": "dd/MM/yyyy HH:mm", "date": None}
    assert choose_type(find_spellings(pa.array(["05/01/2013 10:00"]), patterns)) == "timestamp"
    # The pattern replaces ISO 8601 in this source.
    assert choose_type(find_spellings(pa.array(["2013-01-05 10:00:00"]), patterns)) == "string"
