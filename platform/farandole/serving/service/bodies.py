"""Bodies of requests and answers: JSON or Arrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
from starlette.responses import Response

from farandole.serving.service.arrow_rows import ARROW_TYPES, rows_from_arrow
from farandole.serving.service.binary_tensors import HEADER
from farandole.serving.service.calls import Call
from farandole.serving.service.errors import RequestError
from farandole.serving.service.rows import RawRows, RowColumns, rows_from_json
from farandole.serving.service.served import Predictions, ServedModel
from farandole.serving.service.settings import NotANumber, RequestLimits

_ARROW_STREAM = "application/vnd.apache.arrow.stream"
_JSON_TYPES = frozenset({"", "application/json", "text/json"})


def read_rows(call: Call, body: bytes, columns: RowColumns, limits: RequestLimits, not_a_number: NotANumber) -> RawRows:
    """Return the raw rows in a body.

    Raises:
        RequestError: The body is of another type, damaged or too large; or a row lacks a column.
    """
    media_type = call.media_type
    if media_type in _JSON_TYPES:
        return rows_from_json(body, columns, limits, not_a_number)
    if media_type in ARROW_TYPES:
        return rows_from_arrow(body, columns, limits, not_a_number)
    raise RequestError(415, f"send JSON (application/json) or Arrow IPC ({_ARROW_STREAM})")


def write_predictions(call: Call, model: ServedModel, rows: RawRows, predictions: Predictions) -> Response:
    """Return predictions in the form of the request: rows, columns, or Arrow where the caller accepts it."""
    if call.accepts(ARROW_TYPES):
        return _arrow_response(model, predictions)
    lists = {name: values.tolist() for name, values in predictions.items()}
    if rows.by_columns:
        return json_response({"model": identity(model), "predictions": lists})
    names = tuple(lists)
    found = [dict(zip(names, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    return json_response({"model": identity(model), "predictions": found})


def write_explanations(model: ServedModel, found: list[dict[str, Any] | None]) -> Response:
    """Return explanations, one for each row."""
    return json_response({"model": identity(model), "explanations": found})


def identity(model: ServedModel) -> dict[str, str]:
    """Return name, version and digest of a model, which every answer has."""
    return {"name": model.name, "version": model.version, "digest": model.digest}


def _arrow_response(model: ServedModel, predictions: Predictions) -> Response:
    arrays = {
        name: pa.array(values.tolist(), pa.string()) if values.dtype == object else pa.array(values)
        for name, values in predictions.items()
    }
    batch = pa.record_batch(arrays)
    batch = batch.replace_schema_metadata(identity(model))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return Response(sink.getvalue().to_pybytes(), media_type=_ARROW_STREAM)


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a document as JSON; NaN and infinities become null."""
    return Response(
        orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS),
        status,
        dict(headers) if headers else None,
        "application/json",
    )


def inference_response(document: Mapping[str, Any], tail: Sequence[bytes]) -> Response:
    """Return an answer of the Open Inference Protocol; outputs as bytes follow its JSON."""
    answer = json_response(document)
    if not tail:
        return answer
    text = bytes(answer.body)
    return Response(b"".join([text, *tail]), headers={HEADER: str(len(text))}, media_type="application/octet-stream")


def error_response(call: Call, error: RequestError, *, terse: bool) -> Response:
    """Return an error as JSON; `error` is its message, as the Open Inference Protocol has it.

    Args:
        call: The request.
        error: The error.
        terse: Whether rows, columns, values and rules are left out.
    """
    body: dict[str, Any] = {"error": str(error), "kind": error.kind, "request_id": call.request_id}
    if error.errors and not terse:
        body["errors"] = error.errors
    return json_response(body, error.status, error.headers)
