from __future__ import annotations

import json

import pytest

from farandole.ingest.spark.error_transport import decode_error


@pytest.mark.parametrize("message", ["plain", 'quotes " and \\ and }', "two\nlines", "café ✓ @farandole-error {"])
def test_any_message_survives_the_transport(message: str) -> None:
    packed = "@farandole-error " + json.dumps({"kind": "DataError", "message": message})
    error = decode_error(f"PythonException: Traceback …\nRuntimeError: {packed}\n\n\tat org.apache.spark.Task")
    assert str(error) == message
    assert error is not None
    assert error.detail is not None
    assert "org.apache.spark.Task" in error.detail


def test_text_without_a_packed_error_decodes_to_none() -> None:
    assert decode_error("org.apache.spark.SparkException: Job aborted") is None
