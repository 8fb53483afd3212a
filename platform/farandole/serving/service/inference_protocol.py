"""The Open Inference Protocol, version 2, with tensors as JSON or as bytes (`binary_tensors`).

A raw column of the model is an input tensor of the same name: `[rows]` or `[rows, 1]`, or `[rows, ...]` for a column of
lists. Texts, dates, timestamps, decimals and base64 bytes are `BYTES`. The specification is
https://github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from farandole.serving.service.binary_tensors import (
    BinaryTail,
    read_values,
    split_body,
    wants_binary,
    without_nan,
    write_values,
)
from farandole.serving.service.errors import RequestError
from farandole.serving.service.rows import RawRows, RowColumns, check_size, from_columns, parse_json
from farandole.serving.service.served import Predictions, ServedModel
from farandole.serving.service.settings import NotANumber, RequestLimits
from farandole.shards import LabelColumn

_DATATYPES = {
    "boolean": "BOOL",
    "tinyint": "INT8",
    "smallint": "INT16",
    "int": "INT32",
    "bigint": "INT64",
    "float": "FP32",
    "double": "FP64",
}
"""SQL type to datatype; all others are BYTES."""
_INTEGERS = frozenset({"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"})
_FLOATS = frozenset({"FP16", "FP32", "FP64"})
_ALLOWED: dict[str, frozenset[type]] = {
    "BOOL": frozenset({bool, type(None)}),
    "BYTES": frozenset({str, type(None)}),
    **{name: frozenset({int, type(None)}) for name in _INTEGERS},
    **{name: frozenset({int, float, type(None)}) for name in _FLOATS},
}


def metadata(model: ServedModel, versions: Sequence[str]) -> dict[str, Any]:
    """Return the metadata of a model: its inputs, its outputs and its versions."""
    return {
        "name": model.name,
        "versions": list(versions),
        "platform": "farandole",
        "inputs": [_input(name, model.columns.types[name]) for name in model.columns.names],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in _outputs(model.bundle.label)
        ],
        "parameters": {"version": model.version, "bundle_digest": model.digest},
    }


def _input(name: str, sql_type: str) -> dict[str, Any]:
    if sql_type.startswith("array<"):
        return {"name": name, "datatype": _DATATYPES.get(sql_type[6:-1], "BYTES"), "shape": [-1, -1]}
    return {"name": name, "datatype": _DATATYPES.get(sql_type, "BYTES"), "shape": [-1]}


def _outputs(label: LabelColumn) -> list[tuple[str, str]]:
    if label.kind == "regression":
        return [("prediction", "FP64")]
    if label.kind == "binary":
        return [("prediction", "BYTES"), ("probability", "FP64")]
    return [("prediction", "BYTES"), *((f"probability_{name}", "FP64") for name in label.classes)]


def read_request(
    body: bytes, columns: RowColumns, limits: RequestLimits, not_a_number: NotANumber, header: bytes | None = None
) -> tuple[RawRows, dict[str, Any]]:
    """Return the rows of an inference request, and the request.

    Args:
        body: The body.
        columns: The columns that the model needs.
        limits: Most rows and columns.
        not_a_number: The policy for NaN.
        header: The value of the header `Inference-Header-Content-Length`; None: the body is JSON.

    Raises:
        RequestError: The body is not such a request, or its tensors do not fit each other.
    """
    text, tail = split_body(body, header)
    document = parse_json(text, not_a_number)
    inputs = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(inputs, list) or not inputs or not all(isinstance(each, dict) for each in inputs):
        raise RequestError(400, "`inputs` must be a list of tensors: name, shape, datatype and data")
    request_id = document.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise RequestError(400, "`id` must be a text")
    check_size(0, len(inputs), limits)
    found: dict[str, Any] = {}
    for tensor in inputs:
        name = tensor.get("name")
        if not isinstance(name, str) or name in found:
            raise RequestError(400, "every tensor in `inputs` must have a `name` of its own, a text")
        found[name] = _values(tensor, limits, tail, columns.types.get(name, ""), not_a_number)
    tail.check_end()
    _check_outputs(document)
    return from_columns(found, columns, limits), document


def _check_outputs(document: Mapping[str, Any]) -> None:
    wants_binary({}, document)
    outputs = document.get("outputs")
    if outputs is None:
        return
    if not isinstance(outputs, list) or not all(
        isinstance(each, dict) and isinstance(each.get("name"), str) for each in outputs
    ):
        raise RequestError(400, "`outputs` must be a list of objects with a `name`")
    for each in outputs:
        wants_binary(each, document)


def _values(
    tensor: Mapping[str, Any], limits: RequestLimits, tail: BinaryTail, sql_type: str, not_a_number: NotANumber
) -> list[Any]:
    """Return the rows of a tensor.

    Raises:
        RequestError: Its shape, its datatype and its data do not fit each other.
    """
    name, shape, datatype = (tensor.get(key) for key in ("name", "shape", "datatype"))
    where = f"tensor {str(name)[:60]!r}"
    if not isinstance(datatype, str) or datatype not in _ALLOWED:
        raise RequestError(400, f"{where}: `datatype` must be one of {', '.join(sorted(_ALLOWED))}")
    if not isinstance(shape, list) or not shape or not all(type(size) is int and size >= 0 for size in shape):
        raise RequestError(400, f"{where}: `shape` must be a list of sizes")
    check_size(shape[0], 0, limits)
    count, width = math.prod(shape), math.prod(shape[1:])
    if (size := _binary_size(tensor, where)) is None:
        flat = _json_values(tensor.get("data"), datatype, count, where)
    else:
        flat = read_values(datatype, count, tail.take(size, where), where, as_text="binary" not in sql_type)
        if datatype in _FLOATS:
            flat = without_nan(str(name), flat, width, not_a_number)
    if len(shape) == 1 or (len(shape) == 2 and width == 1):
        return flat
    return [flat[start : start + width] for start in range(0, len(flat), width)] if width else [[]] * shape[0]


def _binary_size(tensor: Mapping[str, Any], where: str) -> Any:
    """Return the size that a tensor gives for its bytes; None if its values are in the JSON."""
    parameters = tensor.get("parameters")
    if parameters is None:
        return None
    if not isinstance(parameters, dict):
        raise RequestError(400, f"{where}: `parameters` must be an object")
    size = parameters.get("binary_data_size")
    if size is not None and "data" in tensor:
        raise RequestError(400, f"{where}: has `data` and `binary_data_size`; leave one out")
    return size


def _json_values(data: Any, datatype: str, count: int, where: str) -> list[Any]:
    if not isinstance(data, list):
        raise RequestError(400, f"{where}: `data` must be a list, unless `parameters` has `binary_data_size`")
    flat = _flatten(data)
    if count != len(flat):
        raise RequestError(400, f"{where}: `shape` means {count} values, and `data` has {len(flat)}")
    if not set(map(type, flat)) <= _ALLOWED[datatype]:
        raise RequestError(400, f"{where}: a value in `data` is not {datatype}")
    return flat


def _flatten(data: list[Any]) -> list[Any]:
    while data and any(type(each) is list for each in data):
        data = [value for each in data for value in (each if type(each) is list else [each])]
    return data


def answer(
    model: ServedModel, predictions: Predictions, document: Mapping[str, Any]
) -> tuple[dict[str, Any], list[bytes]]:
    """Return the JSON of an answer, and the outputs that were asked for as bytes, which follow it.

    Raises:
        RequestError: The request asks for an output that the model lacks.
    """
    wanted = document.get("outputs") or [{"name": name} for name in predictions]
    unknown = [each["name"] for each in wanted if each["name"] not in predictions]
    if unknown:
        raise RequestError(400, f"the model has no output of such a name; it has {', '.join(predictions)}")
    body: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if document.get("id") is not None:
        body["id"] = document["id"]
    body["parameters"] = {"bundle_digest": model.digest}
    tail: list[bytes] = []
    body["outputs"] = [
        _output(each["name"], predictions[each["name"]], tail, wants_binary(each, document)) for each in wanted
    ]
    return body, tail


def _output(name: str, values: np.ndarray, tail: list[bytes], is_binary: bool) -> dict[str, Any]:
    """Return an output; if it is binary, append its bytes to the tail."""
    found: dict[str, Any] = {
        "name": name,
        "datatype": "BYTES" if values.dtype == object else "FP64",
        "shape": [len(values)],
    }
    if not is_binary:
        return {**found, "data": values.tolist()}
    tail.append(write_values(values))
    return {**found, "parameters": {"binary_data_size": len(tail[-1])}}
