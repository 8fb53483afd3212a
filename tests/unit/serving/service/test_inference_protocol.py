from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from farandole.serving.service.errors import RequestError
from farandole.serving.service.inference_protocol import answer, metadata, read_request
from farandole.serving.service.rows import RowColumns
from farandole.serving.service.served import ServedModel
from farandole.serving.service.settings import RequestLimits

COLUMNS = RowColumns(("x", "name"), {"x": "double", "name": "string"})
NAME = {"name": "name", "shape": [2], "datatype": "BYTES", "data": ["a", None]}


def read(*inputs: Any, columns: RowColumns = COLUMNS, **more: Any) -> Any:
    body = json.dumps({"inputs": inputs, **more}).encode()
    return read_request(body, columns, RequestLimits(max_rows=4), "refuse")[0]


def tensor(**changed: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [2], "datatype": "FP64", "data": [1, 2.5], **changed}


@pytest.mark.parametrize(
    "given",
    [tensor(), tensor(shape=[2, 1]), tensor(shape=[2, 1], data=[[1], [2.5]]), tensor(datatype="FP32")],
    ids=str,
)
def test_tensors_of_one_value_a_row_become_columns(given: dict[str, Any]) -> None:
    rows = read(given, NAME)
    assert rows.columns == {"x": [1, 2.5], "name": ["a", None]}
    assert rows.num_rows == 2


def test_tensor_with_several_values_a_row_becomes_lists() -> None:
    columns = RowColumns(("pixels",), {"pixels": "array<int>"})
    given = {"name": "pixels", "shape": [2, 3], "datatype": "INT32", "data": [[1, 2, 3], [4, 5, 6]]}
    assert read(given, columns=columns).columns == {"pixels": [[1, 2, 3], [4, 5, 6]]}


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"shape": [3]}, 400),
        ({"shape": []}, 400),
        ({"shape": [-2]}, 400),
        ({"shape": [True, 2]}, 400),
        ({"shape": "2"}, 400),
        ({"shape": [2, 0]}, 400),
        ({"shape": [5], "data": [1] * 5}, 413),
        ({"shape": [10**12]}, 413),
        ({"shape": [10**30]}, 400),
        ({"datatype": "FP128"}, 400),
        ({"datatype": []}, 400),
        ({"datatype": "INT64"}, 400),
        ({"datatype": "BOOL"}, 400),
        ({"data": ["1", "2"]}, 400),
        ({"data": [True, False]}, 400),
        ({"data": None, "parameters": {"binary_data_size": 16}}, 400),
        ({"name": 1}, 400),
        ({"name": "name"}, 400),
        ({"name": "y"}, 422),
    ],
    ids=str,
)
def test_tensor_that_does_not_fit_is_refused(changed: dict[str, Any], status: int) -> None:
    with pytest.raises(RequestError) as refused:
        read(NAME, tensor(**changed))
    assert refused.value.status == status


@pytest.mark.parametrize(
    "document", [[], {}, {"inputs": []}, {"inputs": [1]}, {"inputs": {}}, {"inputs": [NAME], "id": 1}], ids=str
)
def test_other_documents_are_refused(document: Any) -> None:
    with pytest.raises(RequestError) as refused:
        read_request(json.dumps(document).encode(), COLUMNS, RequestLimits(), "refuse")
    assert refused.value.status == 400


@pytest.mark.parametrize("outputs", [1, [1], [{}], [{"name": 2}]], ids=str)
def test_wrong_choice_of_outputs_is_refused(outputs: Any) -> None:
    with pytest.raises(RequestError, match="outputs"):
        read(tensor(), NAME, outputs=outputs)


def test_metadata_lists_columns_outputs_and_versions(model: ServedModel) -> None:
    found = metadata(model, ["3", "4"])
    assert found["versions"] == ["3", "4"]
    assert {each["name"]: each["datatype"] for each in found["inputs"]} == {
        "distance": "FP64",
        "seats": "INT32",
        "carrier": "BYTES",
        "delayed": "BOOL",
    }
    assert [each["name"] for each in found["outputs"]] == ["prediction", "probability"]
    assert found["parameters"]["bundle_digest"] == model.digest


def test_answer_names_model_version_and_digest_and_has_the_chosen_outputs(model: ServedModel) -> None:
    predictions = {"prediction": np.array(["no"], dtype=object), "probability": np.array([0.25])}
    body = answer(model, predictions, {"id": "7", "outputs": [{"name": "probability"}]})
    assert body == {
        "model_name": "flights",
        "model_version": "3",
        "id": "7",
        "parameters": {"bundle_digest": model.digest},
        "outputs": [{"name": "probability", "datatype": "FP64", "shape": [1], "data": [0.25]}],
    }
    assert answer(model, predictions, {})["outputs"][0]["datatype"] == "BYTES"
    with pytest.raises(RequestError, match="no output"):
        answer(model, predictions, {"outputs": [{"name": "certainty"}]})
