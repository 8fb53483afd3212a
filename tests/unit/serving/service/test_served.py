from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from farandole.serving.service.errors import RequestError
from farandole.serving.service.rows import RawRows, rows_from_json
from farandole.serving.service.served import Predictions, ServedModel
from farandole.serving.service.settings import RequestLimits
from tests.support.served import OTHER_ROW, ROW, make_bundle, make_query_bundle


def request(model: ServedModel, *rows: dict[str, Any]) -> RawRows:
    return rows_from_json(json.dumps({"rows": rows}).encode(), model.columns, RequestLimits(), "refuse")


def bits(predictions: Predictions | Exception) -> list[Any]:
    assert not isinstance(predictions, Exception), predictions
    return [predictions["prediction"].tolist(), predictions["probability"].tobytes()]


def test_answers_are_those_of_the_predictor(model: ServedModel) -> None:
    (found,) = model.compute([request(model, ROW, OTHER_ROW)])
    expected = model.predictor.predict({name: [ROW[name], OTHER_ROW[name]] for name in ROW})
    assert bits(found) == bits(expected)


def test_answer_does_not_depend_on_the_other_requests_of_a_batch(model: ServedModel) -> None:
    spellings: list[dict[str, Any]] = [
        {"distance": 212},
        {"distance": "212.0"},
        {"carrier": 7},
        {"delayed": 1},
        {"seats": None},
    ]
    rows = [ROW, OTHER_ROW, *({**OTHER_ROW, **changed} for changed in spellings)]
    alone = [bits(model.compute([request(model, row)])[0]) for row in rows]
    for order in itertools.islice(itertools.permutations(range(len(rows))), 0, None, 700):
        together = model.compute([request(model, rows[index]) for index in order])
        assert [bits(each) for each in together] == [alone[index] for index in order]


def test_wrong_row_fails_alone(model: ServedModel) -> None:
    wrong = {**ROW, "distance": "far"}
    good, failed, also_good = model.compute([request(model, ROW), request(model, wrong), request(model, OTHER_ROW)])
    assert bits(good) == bits(model.compute([request(model, ROW)])[0])
    assert bits(also_good) == bits(model.compute([request(model, OTHER_ROW)])[0])
    assert isinstance(failed, RequestError)
    assert failed.status == 422


@pytest.mark.parametrize(
    ("kind", "number", "shown"),
    [
        (pa.date32(), 2**30, f"<value out of range: {2**30}>"),
        (pa.timestamp("s"), 2**40, f"<value out of range: {2**40}>"),
        (pa.timestamp("s", "No/Where"), 0, "a value of the type timestamp[s, tz=No/Where]"),
    ],
    ids=str,
)
def test_value_that_python_does_not_have_is_shown(
    model: ServedModel, kind: pa.DataType, number: int, shown: str
) -> None:
    columns = {name: pa.array([value]) for name, value in ROW.items()}
    columns["distance"] = pa.array([number], kind)
    (failed,) = model.compute([RawRows(columns, 1, ())])
    assert isinstance(failed, RequestError)
    assert (failed.errors[0]["column"], failed.errors[0]["value"]) == ("distance", shown)


@pytest.mark.parametrize(
    ("changed", "column", "value"),
    [
        ({"distance": "far"}, "distance", "far"),
        ({"distance": None}, "distance", None),
        ({"seats": 1.5}, "seats", 1.5),
        ({"seats": 2**40}, "seats", 2**40),
        ({"delayed": "perhaps"}, "delayed", "perhaps"),
        ({"carrier": ["UA", "AA"]}, "carrier", "['UA', 'AA']"),
    ],
    ids=str,
)
def test_error_names_row_column_value_and_rule(
    model: ServedModel, changed: dict[str, Any], column: str, value: Any
) -> None:
    (failed,) = model.compute([request(model, ROW, ROW, {**ROW, **changed}, ROW)])
    assert isinstance(failed, RequestError)
    (error,) = failed.errors
    assert (error["row"], error["column"], error["value"]) == (2, column, value)
    assert column in error["rule"]


def test_all_wrong_rows_are_named_up_to_ten(model: ServedModel) -> None:
    wrong = {**ROW, "distance": "far"}
    (failed,) = model.compute([request(model, wrong, ROW, wrong)])
    assert isinstance(failed, RequestError)
    assert [error["row"] for error in failed.errors] == [0, 2]
    (failed,) = model.compute([request(model, *[wrong] * 50)])
    assert isinstance(failed, RequestError)
    assert len(failed.errors) == 10


def test_unknown_category_and_missing_number_are_handled_as_in_training(model: ServedModel) -> None:
    unknown, missing = {**ROW, "carrier": "ZZ"}, {**ROW, "carrier": None}
    found = [bits(each) for each in model.compute([request(model, row) for row in (ROW, unknown, missing)])]
    assert len({repr(each) for each in found}) >= 2


def test_observer_receives_all_good_rows_with_their_predictions(model: ServedModel) -> None:
    seen: list[tuple[int, int]] = []
    model.observe = lambda batch, found: seen.append((batch.num_rows, len(found["prediction"])))
    try:
        model.compute([request(model, ROW), request(model, {**ROW, "distance": "x"}), request(model, ROW, OTHER_ROW)])
    finally:
        model.observe = None
    assert sum(rows for rows, _ in seen) == 3
    assert all(rows == predictions for rows, predictions in seen)


def test_infinite_number_is_an_error_of_its_row(model: ServedModel) -> None:
    infinite = RawRows({name: [value] for name, value in {**ROW, "distance": np.inf}.items()}, 1, (1, 2, 3, 4))
    (failed,) = model.compute([infinite])
    assert isinstance(failed, RequestError)
    assert failed.errors[0]["column"] == "distance"


def test_rows_of_the_source_pass_through_the_query_and_excluded_ones_have_no_prediction(
    model: ServedModel, tmp_path: Path
) -> None:
    bundle = make_query_bundle(tmp_path / "with_query")
    with_query = ServedModel(bundle, bundle.predictor(), "1")
    with_query.warm_up()
    source = {"miles": 100.0, "seats": 150, "carrier": "UA", "delayed": True, "cancelled": False}
    good, failed, excluded = with_query.compute(
        [
            request(with_query, source),
            request(with_query, {**source, "miles": "far"}),
            request(with_query, {**source, "cancelled": True}, source),
        ]
    )
    expected = bits(model.compute([request(model, {**ROW, "distance": 160.9344})])[0])
    assert bits(good) == expected
    assert isinstance(failed, RequestError)
    assert (failed.errors[0]["row"], failed.errors[0]["column"]) == (0, "miles")
    assert not isinstance(excluded, Exception)
    assert excluded["prediction"][0] is None
    assert np.isnan(excluded["probability"][0])
    assert bits({name: values[1:] for name, values in excluded.items()}) == expected


def test_raw_value_of_a_pseudonymised_column_is_refused_without_the_value(tmp_path: Path) -> None:
    privacy = {"columns": {"carrier": {"policy": "pseudonymise"}}, "key": {"environment": "KEY_OF_A_TEST"}}
    bundle = make_bundle(tmp_path / "bundle", documents={"lineage.json": {"job": {"data": {"privacy": privacy}}}})
    model = ServedModel(bundle, bundle.predictor(), "1")
    model.warm_up()
    good = {**ROW, "carrier": "0123456789abcdef" * 2}
    assert bits(model.compute([request(model, good)])[0])
    (answer,) = model.compute([request(model, good, {**ROW, "carrier": "Acme Air"})])
    assert isinstance(answer, RequestError)
    (error,) = answer.errors
    assert (error["row"], error["column"]) == (1, "carrier")
    assert "apply `pseudonymise` to the rows first" in error["rule"]
    assert "Acme" not in repr(answer.errors)
