"""A real service: `farandole serve` with its workers, asked over HTTP."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import pyarrow as pa
import pytest

from farandole.bundle import Bundle
from farandole.serving.access import read_secret, verify_audit
from tests.support.access import make_key
from tests.support.served import OTHER_ROW, ROW, RunningService, make_bundle, running_service
from tests.support.service_clients import ask

ROWS = {"rows": [ROW, OTHER_ROW]}
COLUMNS = {name: [ROW[name], OTHER_ROW[name]] for name in ROW}


KEY_SCOPES = ("predict", "explain")
SERVICE_OPTIONS = ("--workers", "1", "--poll", "0", "--max-body", "0.1", "--max-rows", "20", "--max-request-time", "3")


@pytest.fixture(scope="module")
def expected(bundle: Bundle) -> dict[str, np.ndarray]:
    return bundle.predictor("eager").predict(COLUMNS)


def test_predictions_of_raw_rows_are_those_of_the_bundle_to_the_bit(
    service: RunningService, bundle: Bundle, key: str, expected: dict[str, np.ndarray]
) -> None:
    answer = ask(service.url, "/predict", ROWS, key=key)
    assert answer.status == 200
    assert answer.json["model"] == {"name": "flights", "version": bundle.digest[7:19], "digest": bundle.digest}
    assert [row["probability"] for row in answer.json["predictions"]] == expected["probability"].tolist()
    assert [row["prediction"] for row in answer.json["predictions"]] == expected["prediction"].tolist()
    columns = ask(service.url, "/predict?model=flights", {"columns": COLUMNS}, key=key)
    assert columns.json["predictions"]["probability"] == expected["probability"].tolist()


def test_predictions_travel_as_arrow(service: RunningService, key: str, expected: dict[str, np.ndarray]) -> None:
    table = pa.table(COLUMNS)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    media_type = "application/vnd.apache.arrow.stream"
    answer = ask(
        service.url,
        "/predict",
        body=sink.getvalue().to_pybytes(),
        key=key,
        headers={"content-type": media_type, "accept": media_type},
    )
    assert (answer.status, answer.headers["content-type"]) == (200, media_type)
    found = pa.ipc.open_stream(answer.body).read_all()
    assert found["probability"].to_pylist() == expected["probability"].tolist()
    assert found.schema.metadata[b"name"] == b"flights"


def test_open_inference_protocol(service: RunningService, key: str, expected: dict[str, np.ndarray]) -> None:
    document = ask(service.url, "/v2/models/flights", key=key).json
    inputs = [
        {"name": each["name"], "datatype": each["datatype"], "shape": [2], "data": COLUMNS[each["name"]]}
        for each in document["inputs"]
    ]
    version = document["versions"][0]
    for path in ("/v2/models/flights/infer", f"/v2/models/flights/versions/{version}/infer"):
        answer = ask(service.url, path, {"id": "a", "inputs": inputs}, key=key).json
        found = {each["name"]: each["data"] for each in answer["outputs"]}
        assert found["probability"] == expected["probability"].tolist()
        assert (answer["id"], answer["model_version"]) == ("a", version)
    assert ask(service.url, "/v2/models/flights/versions/9/infer", {"inputs": inputs}, key=key).status == 404
    assert ask(service.url, "/v2/models/flights/ready", key=key).json["ready"] is True
    assert ask(service.url, "/v2/health/ready").json == {"ready": True}
    assert ask(service.url, "/v2/health/live").json == {"live": True}


def test_binary_tensors_have_the_same_answers(
    service: RunningService, key: str, expected: dict[str, np.ndarray]
) -> None:
    carriers = b"".join(len(each).to_bytes(4, "little") + each.encode() for each in COLUMNS["carrier"])
    binary = {
        "distance": ("FP64", np.array(COLUMNS["distance"]).tobytes()),
        "carrier": ("BYTES", carriers),
        "delayed": ("BOOL", np.array(COLUMNS["delayed"]).tobytes()),
    }
    tensors: list[dict[str, object]] = [
        {"name": name, "shape": [2], "datatype": datatype, "parameters": {"binary_data_size": len(content)}}
        for name, (datatype, content) in binary.items()
    ]
    tensors.append({"name": "seats", "shape": [2], "datatype": "INT32", "data": COLUMNS["seats"]})
    text = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    body = text + b"".join(content for _, content in binary.values())
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(text))}
    answer = ask(service.url, "/v2/models/flights/infer", body=body, key=key, headers=headers)
    length = int(answer.headers["inference-header-content-length"])
    outputs = {each["name"]: each for each in json.loads(answer.body[:length])["outputs"]}
    size = outputs["probability"]["parameters"]["binary_data_size"]
    assert np.frombuffer(answer.body[-size:], "<f8").tolist() == expected["probability"].tolist()
    assert length + sum(each["parameters"]["binary_data_size"] for each in outputs.values()) == len(answer.body)
    assert "binary_tensor_data" in ask(service.url, "/v2", key=key).json["extensions"]
    wrong = ask(service.url, "/v2/models/flights/infer", body=body + b"x", key=key, headers=headers)
    assert (wrong.status, wrong.json["kind"]) == (400, "bad_request")


@pytest.mark.parametrize(
    "path", ["/predict", "/explain", "/metrics", "/v2", "/v2/models", "/v2/models/flights", "/openapi.json", "/nothing"]
)
def test_caller_without_a_key_learns_nothing(service: RunningService, path: str) -> None:
    for key in (None, "wrong", "fara_" + "0" * 43):
        answer = ask(service.url, path, {"rows": [{"distance": "secret-value"}]}, key=key)
        assert answer.status == 401
        assert set(answer.json) == {"error", "kind", "request_id"}
        assert not {"distance", "carrier", "secret-value", "flights"} & set(answer.body.decode().split('"'))


def test_scope_is_needed(service: RunningService, access: Path, key: str) -> None:
    assert ask(service.url, "/metrics", key=key).status == 403
    admin = make_key(access, "prometheus", ("admin",))
    service.wait_until(lambda: ask(service.url, "/metrics", key=admin).status == 200, "the new key")
    assert b"farandole_requests_total" in ask(service.url, "/metrics", key=admin).body
    assert ask(service.url, "/predict", ROWS, key=admin).status == 403


def test_error_names_row_column_value_and_rule_for_a_caller_with_a_key(service: RunningService, key: str) -> None:
    answer = ask(service.url, "/predict", {"rows": [ROW, {**ROW, "distance": "far"}]}, key=key)
    assert answer.status == 422
    (error,) = answer.json["errors"]
    assert (error["row"], error["column"], error["value"]) == (1, "distance", "far")
    assert "double" in error["rule"]


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/json", 400),
        (b"no json", "application/json", 400),
        (b'{"rows": [{"distance": 1e999}]}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"[" * 200_000, "application/json", 413),
        (json.dumps({"rows": [ROW] * 21}).encode(), "application/json", 413),
        (b"ARROW1\0\0", "application/vnd.apache.arrow.file", 400),
        (b"\xff\xff\xff\xff\x10\0\0\0", "application/vnd.apache.arrow.stream", 400),
        (b"<rows/>", "text/xml", 415),
    ],
    ids=lambda value: str(value)[:30],
)
def test_wrong_body_has_a_clear_answer(
    service: RunningService, key: str, body: bytes, content_type: str, status: int
) -> None:
    answer = ask(service.url, "/predict", body=body, key=key, headers={"content-type": content_type})
    assert answer.status == status
    assert answer.json["request_id"] == answer.headers["x-request-id"]


def _talk(url: str, sent: bytes) -> bytes:
    """Send bytes and return everything that the service answers until it closes the connection."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60) as connection:
        received = b""
        with suppress(ConnectionResetError):  # the service has closed it before it read all
            connection.sendall(sent)
            while part := connection.recv(65536):
                received += part
    return received


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b" 408 "),
        (b"POST /predict HTTP/1.1\r\nhost: x\r\n", b" 408 "),
        (b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\nauthorization: Bearer KEY\r\n\r\n{", b" 408 "),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000, b" 431 "),
        (b"no http\r\n\r\n", b" 400 "),
    ],
    ids=["silent", "slow head", "slow body", "endless head", "not http"],
)
def test_slow_and_endless_requests_are_ended(service: RunningService, key: str, sent: bytes, status: bytes) -> None:
    assert status in _talk(service.url, sent.replace(b"KEY", key.encode())).partition(b"\r\n")[0] + b" "


def test_log_and_audit_hold_no_inputs(service: RunningService, access: Path, key: str) -> None:
    ask(service.url, "/predict", {"rows": [{**ROW, "carrier": "never-logged"}]}, key=key)
    service.wait_until(
        lambda: any(line["status"] == 200 and line["rows"] == 1 for line in service.events("request")), "the log"
    )
    (line, *_) = [line for line in service.events("request") if line["route"] == "predict" and line["status"] == 200]
    assert {"request_id", "ms", "model", "version", "caller"} <= set(line)
    assert "never-logged" not in repr(service.lines)
    assert verify_audit(access, read_secret(access, create=False)).is_intact
    assert b"never-logged" not in b"".join(path.read_bytes() for path in access.rglob("*") if path.is_file())


def test_service_of_a_job_file_answers_and_its_workers_end_with_a_killed_supervisor(
    bundle: Bundle, tmp_path: Path
) -> None:
    job = tmp_path / "job.yaml"
    data = "{sources: {flights: {path: flights.csv}}, features: {distance: {kind: numeric}}}"
    part = f"{{models: [{bundle.path}], workers: 1, no_auth: true, poll: 0, max_rows: 1, port: 1}}"
    job.write_text(f"name: flights\ndata: {data}\nserve: {part}\n", encoding="utf-8")
    with running_service(str(job), "--set", "serve.max_columns=4") as service:  # which chooses a port, and so wins
        assert ask(service.url, "/predict", {"rows": [ROW]}).json["model"]["digest"] == bundle.digest
        assert ask(service.url, "/predict", ROWS).status == 413
        assert ask(service.url, "/predict", {"rows": [{**ROW, "more": 1}]}).status == 413
        workers = [psutil.Process(pid) for pid in service.worker_pids()]
        assert workers
        service.process.kill()
        service.process.wait(60)
        _, alive = psutil.wait_procs(workers, timeout=60)
    assert alive == []


def test_taken_port_and_unknown_model_are_clear_errors(bundle: Bundle, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = _serve(str(bundle.path), "--port", port, "--no-auth")
    assert (done.returncode, f"127.0.0.1:{port}: Address already in use" in done.stderr) == (2, True)
    done = _serve(str(tmp_path / "nowhere"), "--no-auth")
    assert done.returncode == 2
    assert "nowhere" in done.stderr


def test_damaged_bundle_is_refused(tmp_path: Path) -> None:
    damaged = make_bundle(tmp_path / "damaged")
    weights = damaged.path / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    done = _serve(str(damaged.path), "--no-auth")
    assert done.returncode == 2
    assert "weights.safetensors" in done.stderr


def _serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "farandole", "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
