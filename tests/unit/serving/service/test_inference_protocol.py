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
    body, tail = answer(model, predictions, {"id": "7", "outputs": [{"name": "probability"}]})
    assert tail == []
    assert body == {
        "model_name": "flights",
        "model_version": "3",
        "id": "7",
        "parameters": {"bundle_digest": model.digest},
        "outputs": [{"name": "probability", "datatype": "FP64", "shape": [1], "data": [0.25]}],
    }
    assert answer(model, predictions, {})[0]["outputs"][0]["datatype"] == "BYTES"
    with pytest.raises(RequestError, match="no output"):
        answer(model, predictions, {"outputs": [{"name": "certainty"}]})


def test_output_that_is_asked_for_as_bytes_follows_the_document(model: ServedModel) -> None:
    predictions = {"prediction": np.array(["no"], dtype=object), "probability": np.array([0.25])}
    outputs = [{"name": "probability", "parameters": {"binary_data": True}}, {"name": "prediction"}]
    body, tail = answer(model, predictions, {"outputs": outputs})
    number = {"name": "probability", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}}
    assert body["outputs"] == [number, {"name": "prediction", "datatype": "BYTES", "shape": [1], "data": ["no"]}]
    assert tail == [np.array([0.25]).tobytes()]
    assert answer(model, predictions, {"parameters": {"binary_data_output": True}})[1] == [b"\2\0\0\0no", tail[0]]


def read_binary(document: Any, tail: bytes, columns: RowColumns = COLUMNS) -> Any:
    text = json.dumps(document).encode()
    return read_request(text + tail, columns, RequestLimits(max_rows=4), "refuse", str(len(text)).encode())[0]


def binary(size: Any, **changed: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [2], "datatype": "FP64", "parameters": {"binary_data_size": size}, **changed}


def test_binary_and_other_tensors_are_read_side_by_side() -> None:
    numbers, texts = np.array([1.0, 2.5]).tobytes(), b"\1\0\0\0a\0\0\0\0"
    name = {"name": "name", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(texts)}}
    assert read_binary({"inputs": [binary(16), NAME]}, numbers).columns == {"x": [1.0, 2.5], "name": ["a", None]}
    assert read_binary({"inputs": [name, binary(16)]}, texts + numbers).columns == {"x": [1.0, 2.5], "name": ["a", ""]}


def test_binary_tensors_fill_lists_and_columns_of_bytes() -> None:
    columns = RowColumns(("pixels", "image"), {"pixels": "array<int>", "image": "binary"})
    pixels = binary(6, name="pixels", shape=[2, 3], datatype="UINT8")
    image = binary(11, name="image", datatype="BYTES")
    found = read_binary({"inputs": [pixels, image]}, b"\1\2\3\4\5\6" + b"\1\0\0\0\xff\2\0\0\0ab", columns)
    assert found.columns == {"pixels": [[1, 2, 3], [4, 5, 6]], "image": [b"\xff", b"ab"]}


@pytest.mark.parametrize(
    ("tensor", "tail"),
    [
        (binary(16), b"\0" * 15),
        (binary(16), b"\0" * 17),
        (binary(8), b"\0" * 8),
        (binary(16, shape=[3]), b"\0" * 16),
        (binary(-16), b"\0" * 16),
        (binary("16"), b"\0" * 16),
        (binary(16, data=[1, 2]), b"\0" * 16),
        (binary(16, parameters=[]), b"\0" * 16),
        (binary(16, datatype="BF16"), b"\0" * 16),
        (binary(None), b""),
    ],
)
def test_binary_tensor_of_a_wrong_size_is_refused(tensor: dict[str, Any], tail: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        read_binary({"inputs": [tensor, NAME]}, tail)
    assert refused.value.status == 400
