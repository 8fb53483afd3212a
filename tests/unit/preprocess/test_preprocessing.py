from __future__ import annotations

import datetime
import decimal
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from farandole.errors import DataError
from farandole.preprocess import Observations, Preprocessing, RowStream, learn
from farandole.preprocess.values import arrow_type
from farandole.shards import LABEL, Group
from farandole.spec import Data

Declare = Callable[..., Preprocessing]
Fit = Callable[[Preprocessing, Sequence[pa.RecordBatch]], Preprocessing]

FEATURES: dict[str, Any] = {
    "x": {"kind": "numeric", "indicator": True},
    "bounded": {
        "kind": "numeric",
        "column": "x",
        "clip": {"by": "quantile", "lower": 0.1},
        "scale": "minmax",
        "log": True,
    },
    "carrier": {"kind": "categorical"},
    "start": {"kind": "time", "parts": ["hour"]},
    "day": {"kind": "time", "column": "start", "parts": ["weekday"], "encoding": "category"},
    "bucket": {"kind": "categorical", "encoding": "hash", "buckets": 16, "column": "carrier", "group": "hashed"},
}
TYPES = {"x": "double", "carrier": "string", "start": "timestamp_ntz"}
NOON = datetime.datetime(2024, 1, 1, 12)
ROWS = pa.record_batch(
    {
        "x": pa.array([1.5, None, -3.25, 1e6, 0.1, 7.0]),
        "carrier": pa.array(["AA", "UA", None, "AA", "B6", "ÅÅ"]),
        "start": pa.array([NOON + datetime.timedelta(hours=hours) for hours in range(6)], pa.timestamp("us")),
        "y": pa.array([True, False, True, True, False, False]),
        "unused": pa.array([[1]] * 6),
    }
)


def content(columns: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return types, shapes and bytes of arrays, to compare them bit for bit."""
    return {name: (str(values.dtype), values.shape, values.tobytes()) for name, values in columns.items()}


def test_features_are_in_their_groups_in_declared_order(declare: Declare, fit: Fit) -> None:
    preprocessing = fit(declare(FEATURES, TYPES), [ROWS])
    assert preprocessing.columns == ("x", "carrier", "start")
    assert preprocessing.schema.groups == (
        Group(name="dense", kind="numbers", features=("x", "x_missing", "bounded", "start_hour_sin", "start_hour_cos")),
        Group(name="categorical", kind="ids", features=("carrier", "day_weekday"), cardinalities=(6, 8)),
        Group(name="hashed", kind="ids", features=("bucket",), cardinalities=(18,)),
    )
    columns = preprocessing.rows(ROWS)
    assert {name: values.shape for name, values in columns.items()} == {
        "dense": (6, 5),
        "categorical": (6, 2),
        "hashed": (6, 1),
        LABEL: (6,),
    }
    assert columns["categorical"].tolist() == [[2, 1], [4, 1], [1, 1], [2, 1], [3, 1], [5, 1]]
    assert columns["dense"][:, 1].tolist() == [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert columns[LABEL].tolist() == [1, 0, 1, 1, 0, 0]
    # The schema accepts the results of the transforms.
    assert preprocessing.schema.record_batch(columns).num_rows == 6


def test_features_need_no_label(declare: Declare, fit: Fit) -> None:
    preprocessing = fit(declare(FEATURES, TYPES), [ROWS])
    without = ROWS.select(["start", "x", "carrier"])
    assert content(preprocessing.features(without)) == content(preprocessing.features(ROWS))


def test_missing_column_is_named(declare: Declare, fit: Fit) -> None:
    preprocessing = fit(declare(FEATURES, TYPES), [ROWS])
    with pytest.raises(DataError, match="column carrier: is missing; the rows have x, start"):
        preprocessing.features(ROWS.select(["x", "start"]))


def test_preprocessing_survives_json_bit_for_bit(declare: Declare, fit: Fit) -> None:
    preprocessing = fit(declare(FEATURES, TYPES), [ROWS])
    text = json.dumps(preprocessing.to_dict(), allow_nan=False)
    again = Preprocessing.from_dict(json.loads(text))
    assert again.fitted
    assert again == preprocessing
    assert again.schema.fingerprint == preprocessing.schema.fingerprint
    assert content(again.rows(ROWS)) == content(preprocessing.rows(ROWS))
    assert json.dumps(again.to_dict()) == text


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(-1e6, 1e6)),
            st.one_of(st.none(), st.sampled_from(["a", "b", "c", "é"])),
            st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 1, 1)),
        ),
        min_size=3,
        max_size=25,
    ),
    st.integers(0, 2**32),
)
@hypothesis_settings(max_examples=25, deadline=None)
def test_result_does_not_depend_on_batch_boundaries(
    declare: Declare, fit: Fit, raw: list[tuple[float | None, str | None, datetime.datetime]], seed: int
) -> None:
    random = np.random.default_rng(seed)
    raw = [(0.5, "a", raw[0][2]), *raw]
    batch = pa.record_batch(
        {
            "x": pa.array([row[0] for row in raw], pa.float64()),
            "carrier": pa.array([row[1] for row in raw], pa.string()),
            "start": pa.array([row[2] for row in raw], pa.timestamp("us")),
            "y": pa.array([number % 2 == 0 for number in range(len(raw))]),
        }
    )
    cuts = np.sort(random.integers(0, len(raw) + 1, 3)).tolist()
    edges = [0, *cuts, len(raw)]
    pieces = [batch.slice(start, stop - start) for start, stop in itertools.pairwise(edges)]
    shuffled = [pieces[number] for number in random.permutation(len(pieces))]
    whole, cut = fit(declare(FEATURES, TYPES), [batch]), fit(declare(FEATURES, TYPES), shuffled)
    assert json.dumps(cut.to_dict()) == json.dumps(whole.to_dict())
    parts = [cut.rows(piece) for piece in pieces]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert content(joined) == content(whole.rows(batch))


# Streams of rows ----------------------------------------------------------------------------------------------


def test_stream_gives_the_rows_of_each_batch(declare: Declare, fit: Fit) -> None:
    preprocessing = fit(declare(FEATURES, TYPES), [ROWS])
    stream = RowStream(preprocessing)
    parts = [stream.add(ROWS.slice(0, 2)), stream.add(ROWS.slice(2))]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert content(joined) == content(preprocessing.rows(ROWS))
    assert stream.end() == {}
    assert stream.raw_rows == 6


def test_stream_of_packed_texts_ends_with_a_padded_window() -> None:
    data = {
        "sources": {"a": {"path": "/a.csv"}},
        "features": {"body": {"kind": "text", "length": 4, "mode": "pack", "tokenizer": "words", "min_count": 1}},
    }
    preprocessing = Preprocessing.from_spec(Data.model_validate(data))
    texts = pa.record_batch({"body": pa.array(["a b c", "a b", "a"])})
    observations = Observations()
    observations.add(preprocessing, texts)
    preprocessing = learn(preprocessing, observations)
    stream = RowStream(preprocessing)
    windows = [stream.add(texts.slice(0, 1))["body"], stream.add(texts.slice(1))["body"], stream.end()["body"]]
    assert [len(part) for part in windows] == [1, 1, 1]
    assert np.concatenate(windows).tolist() == [[3, 4, 5, 2], [3, 4, 2, 3], [2, 0, 0, 0]]
    assert preprocessing.num_rows(3) == 3


# Rows that do not come from Spark -----------------------------------------------------------------------------


def test_raw_rows_are_cast_to_the_fitted_types(declare: Declare, fit: Fit) -> None:
    preprocessing = fit(declare(FEATURES, TYPES), [ROWS])
    batch = preprocessing.raw_batch(
        {"carrier": ["AA", None], "x": [1, float("nan")], "start": [NOON, None], "z": [1, 2]}
    )
    assert batch.schema.names == ["x", "carrier", "start"]
    assert batch.schema.types == [pa.float64(), pa.string(), pa.timestamp("us")]
    assert batch.to_pylist() == [
        {"x": 1.0, "carrier": "AA", "start": NOON},
        {"x": None, "carrier": None, "start": None},
    ]
    assert preprocessing.features(batch)["categorical"].tolist() == [[2, 1], [1, 0]]


def test_numpy_arrays_are_accepted_as_rows(declare: Declare, fit: Fit) -> None:
    preprocessing = fit(declare(FEATURES, TYPES), [ROWS])
    batch = preprocessing.raw_batch(
        {
            "x": np.array([1.0, np.nan]),
            "carrier": np.array(["AA", None], dtype=object),
            "start": np.array(["2024-01-01T12:00", "NaT"], dtype="datetime64[s]"),
        }
    )
    assert batch.to_pylist()[0] == {"x": 1.0, "carrier": "AA", "start": NOON}
    assert batch.to_pylist()[1] == {"x": None, "carrier": None, "start": None}


def test_pandas_columns_are_accepted_as_rows(declare: Declare, fit: Fit) -> None:
    preprocessing = fit(declare(FEATURES, TYPES), [ROWS])
    frame = pandas.DataFrame({"x": [1.0, None], "carrier": ["AA", None], "start": pandas.to_datetime([NOON, None])})
    for rows in (frame, frame[:0], frame[1:], frame.astype({"carrier": "category"})):
        batch = preprocessing.raw_batch(rows)
        assert batch.schema.types == [pa.float64(), pa.string(), pa.timestamp("us")]
        assert batch.num_rows == len(rows)
        assert preprocessing.features(batch)["categorical"].tolist() == [[2, 1], [1, 0]][2 - len(rows) :]
    assert preprocessing.raw_batch(frame).to_pylist()[0] == {"x": 1.0, "carrier": "AA", "start": NOON}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"x": None}, "column x: is missing; the model needs x, carrier, start"),
        ({"x": ["one"]}, r"column x: 'one' is not double \(1 of 1 rows\)"),
        ({"x": 5}, "column x: is not double"),
        ({"x": [[1]]}, "column x: is not double"),
        ({"x": [1, "one"]}, r"column x: 'one' is not double \(1 of 2 rows\)"),
        ({"start": [True]}, "column start: is not timestamp_ntz"),
        ({"x": [1.0, 2.0]}, "x|length|rows"),
    ],
    ids=["missing", "text", "scalar", "list", "mixed", "bool", "of another length"],
)
def test_rows_that_do_not_fit_raise_data_errors(
    declare: Declare, fit: Fit, change: dict[str, Any], problem: str
) -> None:
    preprocessing = fit(declare(FEATURES, TYPES), [ROWS])
    columns: dict[str, Any] = {"x": [1.0], "carrier": ["AA"], "start": [NOON], **change}
    with pytest.raises(DataError, match=problem):
        preprocessing.raw_batch({name: values for name, values in columns.items() if values is not None})


def test_fraction_or_huge_number_is_not_accepted_as_an_int(declare: Declare, fit: Fit) -> None:
    rows = pa.record_batch({"n": pa.array([1, 2, 3], pa.int32()), "y": pa.array([True, False, True])})
    preprocessing = fit(declare({"n": {"kind": "numeric"}}, {"n": "int"}), [rows])
    assert preprocessing.raw_batch({"n": [1.0, None]}).to_pydict() == {"n": [1, None]}
    for value in (1.5, 2**40):
        with pytest.raises(DataError, match="column n: is not int"):
            preprocessing.raw_batch({"n": [value]})


# The example row ----------------------------------------------------------------------------------------------

NUMERIC, VOCABULARY = {"kind": "numeric"}, {"kind": "categorical"}
HASH, TIME = {"kind": "categorical", "encoding": "hash", "buckets": 4}, {"kind": "time", "parts": ["hour"]}
DAY = datetime.date(2013, 1, 31)
PRICES = [decimal.Decimal("1.00"), decimal.Decimal("1.33"), decimal.Decimal("7.33")]

EXAMPLES: list[tuple[str, dict[str, Any], list[Any]]] = [
    ("double", NUMERIC, [0.1, 0.2, 0.7]),
    ("float", NUMERIC, [0.1, 0.2, 0.7]),
    ("double", {**NUMERIC, "impute": None}, [0.1, 0.2, 0.7]),
    ("double", {**NUMERIC, "impute": "mean"}, [1e149, 1e-300, 1.0]),
    ("int", NUMERIC, [1, 2, 3]),
    ("bigint", {**NUMERIC, "impute": "mean"}, [1, 2, 4]),
    ("tinyint", {**NUMERIC, "impute": 1000}, [1, 2, 3]),
    ("boolean", NUMERIC, [True, False, True]),
    ("boolean", {**NUMERIC, "impute": "mean"}, [True, False, True]),
    ("decimal(10,2)", NUMERIC, PRICES),
    ("decimal(10,2)", {**NUMERIC, "impute": "mean"}, PRICES),
    ("string", VOCABULARY, ["a", "b", "a"]),
    ("bigint", VOCABULARY, [2**63 - 1, 2**63 - 1, 5]),
    ("double", VOCABULARY, [1.5, 1.5, 2.0]),
    ("boolean", VOCABULARY, [True, False, True]),
    ("date", VOCABULARY, [DAY, DAY, DAY]),
    ("timestamp", VOCABULARY, [NOON, NOON, NOON]),
    ("timestamp_ntz", VOCABULARY, [NOON, NOON, NOON]),
    ("decimal(10,2)", VOCABULARY, PRICES),
    ("date", {**VOCABULARY, "min_count": 9}, [DAY, DAY, DAY]),
    ("string", HASH, ["a", "b", "a"]),
    ("boolean", HASH, [True, False, True]),
    ("date", HASH, [DAY, DAY, DAY]),
    ("timestamp", HASH, [NOON, NOON, NOON]),
    ("timestamp", TIME, [NOON, NOON, NOON]),
    ("timestamp_ntz", TIME, [NOON, NOON, NOON]),
    ("date", TIME, [DAY, DAY, DAY]),
]


@pytest.mark.parametrize(
    ("kind", "feature", "values"),
    EXAMPLES,
    ids=["-".join(map(str, (kind, *feature.values()))) for kind, feature, _ in EXAMPLES],
)
def test_example_row_can_be_transformed(
    declare: Declare, fit: Fit, kind: str, feature: dict[str, Any], values: list[Any]
) -> None:
    rows = pa.record_batch({"c": pa.array(values, arrow_type(kind)), "y": pa.array([True, False, True])})
    preprocessing = fit(declare({"c": feature}, {"c": kind}), [rows])
    example = preprocessing.example()
    assert list(example) == ["c"]
    assert len(example["c"]) == 1
    features = preprocessing.features(preprocessing.raw_batch(example))
    assert all(np.isfinite(array).all() and len(array) == 1 for array in features.values())


def test_example_row_has_learned_values_once_for_each_column(declare: Declare, fit: Fit) -> None:
    example = fit(declare(FEATURES, TYPES), [ROWS]).example()
    assert list(example) == ["x", "carrier", "start"]
    assert example["carrier"] == ["AA"]
    assert example["x"] == pytest.approx([1.5], rel=1e-3)


# Types --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("int", pa.int32()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("decimal(10,2)", pa.decimal128(10, 2)),
        ("array<array<float>>", pa.list_(pa.list_(pa.float32()))),
    ],
)
def test_sql_types_have_arrow_types(name: str, kind: pa.DataType) -> None:
    assert arrow_type(name) == kind


@pytest.mark.parametrize("name", ["map<string,int>", "array<void>", "decimal(10)", ""])
def test_type_that_cannot_be_a_feature_is_rejected(name: str) -> None:
    with pytest.raises(DataError, match="cannot be a feature; cast it in the query"):
        arrow_type(name)
