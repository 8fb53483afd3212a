"""Parts of the OpenAPI document that FastAPI cannot derive: bodies are parsed without its models, which take longer."""

from __future__ import annotations

from typing import Any

_VALUE: dict[str, Any] = {}
_ROWS = {
    "type": "object",
    "required": ["rows"],
    "additionalProperties": False,
    "properties": {"rows": {"type": "array", "minItems": 1, "items": {"type": "object"}}},
    "example": {"rows": [{"carrier": "UA", "distance": 1400}]},
}
_COLUMNS = {
    "type": "object",
    "required": ["columns"],
    "additionalProperties": False,
    "properties": {"columns": {"type": "object", "additionalProperties": {"type": "array", "items": _VALUE}}},
}
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"enum": ["BOOL", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64", "BYTES"]},
        "data": {"type": "array", "items": _VALUE},
        "parameters": {
            "type": "object",
            "properties": {"binary_data_size": {"type": "integer", "minimum": 0}},
        },
    },
}
_INFERENCE = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "inputs": {"type": "array", "minItems": 1, "items": _TENSOR},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "parameters": {"type": "object", "properties": {"binary_data": {"type": "boolean"}}},
                },
            },
        },
        "parameters": {"type": "object", "properties": {"binary_data_output": {"type": "boolean"}}},
    },
}
_ERROR = {
    "type": "object",
    "required": ["error", "kind", "request_id"],
    "properties": {
        "error": {"type": "string"},
        "kind": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}
_DESCRIPTIONS = {
    "400": "The request has another form.",
    "401": "A key is missing or not valid.",
    "403": "The key may not do this.",
    "404": "There is no such path, model or version.",
    "405": "The path has other methods.",
    "408": "The body arrived too slowly.",
    "413": "The request is too large.",
    "415": "The body is of another type.",
    "422": "Rows do not fit the model.",
    "429": "The queue is full, or a limit of the key is reached; Retry-After says when to come back.",
    "503": "The service is starting or ending.",
    "504": "There was no answer in time.",
}


def _parameter(name: str, where: str, text: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": text,
        "schema": {"type": "string", "minLength": 1},
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


_MODEL = _parameter("model", "path", "The model's name.")
_VERSION = _parameter("version", "path", "The model version, or its label in the split.")
_CHOICE = [
    _parameter("model", "query", "The model's name. Default: the first one."),
    _parameter("version", "query", "The version, or its label in the split. Default: as the split says."),
]
_TARGET = _parameter("target", "query", "The class whose output is explained. Default: the predicted one.")
_JSON_LENGTH = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "The length of the JSON in front of binary tensors, in bytes.",
    "schema": {"type": "integer", "minimum": 0},
}
_RAW_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": {"oneOf": [_ROWS, _COLUMNS]}},
        "application/vnd.apache.arrow.stream": {"schema": {"type": "string", "format": "binary"}},
    },
}
_GET_ERRORS = ("401", "403", "404", "429", "503")
_POST_ERRORS = ("400", "401", "403", "404", "408", "413", "415", "422", "429", "503", "504")

HEALTH: dict[str, Any] = {"responses": ("503",), "security": []}
GET: dict[str, Any] = {"responses": _GET_ERRORS}
METRICS: dict[str, Any] = {"responses": _GET_ERRORS}
MODEL_GET: dict[str, Any] = {"parameters": [_MODEL], "responses": _GET_ERRORS}
PREDICT: dict[str, Any] = {"parameters": _CHOICE, "requestBody": _RAW_BODY, "responses": _POST_ERRORS}
EXPLAIN: dict[str, Any] = {"parameters": [*_CHOICE, _TARGET], "requestBody": _RAW_BODY, "responses": _POST_ERRORS}
INFER: dict[str, Any] = {
    "parameters": [_MODEL, _JSON_LENGTH],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _INFERENCE},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    "responses": _POST_ERRORS,
}
EXPLAIN_TENSORS: dict[str, Any] = {**INFER, "parameters": [_MODEL, _TARGET, _JSON_LENGTH]}


def with_version(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document of a route that names a version as well."""
    return {**document, "parameters": [*document["parameters"], _VERSION]}


def responses(document: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Return the errors that a route can answer."""
    found: dict[int | str, dict[str, Any]] = {200: {"description": "The answer.", "content": {"application/json": {}}}}
    for status in document["responses"]:
        found[int(status)] = {"description": _DESCRIPTIONS[status], **_json(_ERROR)}
    return found
