"""Bad input of a service: models that cannot be served, bodies that are not rows, images that are bombs, a full disk.

Wrong keys, tokens and clocks are in `../access`, MLflow that is away in `tests/acceptance/serving`.
"""

from __future__ import annotations

import base64
import json
import resource
import shutil
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from farandole.bundle.signing import create_key, sign
from farandole.cli.main import app
from farandole.errors import FarandoleError, UserError
from farandole.serving.access import read_secret, verify_audit
from tests.support.access import make_key
from tests.support.fuzz_bodies import columns_of, image_seeds
from tests.support.page_models import page_models, write_model
from tests.support.served import OTHER_ROW, ROW, RunningService, make_bundle, running_service
from tests.support.service_clients import Answer, ask

ROWS = {"rows": [ROW, OTHER_ROW]}
ARROW = "application/vnd.apache.arrow.stream"
FLAT_MB = 256


# Models ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the bundles of a table and of a table with pictures."""
    folder = tmp_path_factory.mktemp("bundles")
    make_bundle(folder / "flights")
    write_model(folder / "mixed", "mixed", page_models()["mixed"])
    return folder


@pytest.fixture
def bundle(bundles: Path, tmp_path: Path) -> Path:
    """Copy a bundle, which a test may damage."""
    return Path(shutil.copytree(bundles / "flights", tmp_path / "flights"))


def _refusal(*arguments: object) -> FarandoleError:
    """Return the error with which `farandole serve` ends before it listens."""
    result = CliRunner().invoke(app, ["serve", "--no-auth", "--port", "0", *map(str, arguments)])
    assert isinstance(result.exception, FarandoleError), (result.exception, result.output)
    return result.exception


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["weights.safetensors", "preprocessing.json", "model.json", "statistics.json"])
def test_bundle_with_a_flipped_byte_is_not_served(bundle: Path, file: str) -> None:
    _flip(bundle / file)
    error = _refusal(bundle)
    assert isinstance(error, UserError)
    assert f"{file}: was changed: it does not match its digest" in str(error)


def test_bundle_with_another_signature_or_none_is_not_served(bundle: Path, tmp_path: Path) -> None:
    for name in ("own.pem", "other.pem"):
        create_key(tmp_path / name)
    unsigned = _refusal(bundle, "--public-key", tmp_path / "own.pem.pub")
    assert "is not signed" in str(unsigned)
    own = sign(bundle, tmp_path / "own.pem")
    other = _refusal(bundle, "--public-key", tmp_path / "other.pem.pub")
    assert f"was made with the key {own}, and {tmp_path / 'other.pem.pub'}" in str(other)
    assert {unsigned.exit_code, other.exit_code} == {2}
    missing = _refusal(bundle, "--public-key", tmp_path / "none.pub")
    assert (missing.exit_code, "none.pub" in str(missing)) == (2, True)


def test_bundle_of_another_format_version_is_not_served(bundle: Path) -> None:
    manifest = bundle / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format_version": 2}))
    error = _refusal(bundle)
    assert error.exit_code == 2
    assert "has the format version 2, and this version of Farandole reads 1" in str(error)


def test_taken_port_is_named(bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = _refusal(bundle, "--port", port)
    assert error.exit_code == 2
    assert f"127.0.0.1:{port}: Address already in use; choose another --host or --port" in str(error)


# Bodies ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def access(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("access")


@pytest.fixture(scope="module")
def key(access: Path) -> str:
    return make_key(access, "web", ("predict", "explain"))


@pytest.fixture(scope="module")
def service(bundles: Path, access: Path, key: str) -> Iterator[RunningService]:
    """One worker with the usual limits; every prediction must be recorded."""
    options = ["--workers", "1", "--poll", "0", "--access-dir", str(access), "--audit", "required"]
    with running_service(str(bundles / "flights"), str(bundles / "mixed"), *options) as running:
        yield running


@pytest.fixture(autouse=True)
def no_failure_of_the_service_itself(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "service" in request.fixturenames:
        running: RunningService = request.getfixturevalue("service")
        assert running.events("internal_error") + running.events("worker_died") == []


@contextmanager
def _flat_memory(service: RunningService) -> Iterator[None]:
    """Check that the worker does not keep, in memory, what a bad body unpacks to."""
    service.wait_for("serving")
    (pid,) = service.worker_pids()
    worker = psutil.Process(pid)
    before_mb = worker.memory_info().rss / 2**20
    yield
    assert worker.memory_info().rss / 2**20 - before_mb < FLAT_MB


def _stream(*batches: pa.RecordBatch, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def _predict(service: RunningService, key: str, body: bytes, media_type: str = ARROW) -> Answer:
    return ask(service.url, "/predict", body=body, key=key, headers={"content-type": media_type})


def test_truncated_arrow_is_refused_wherever_it_is_cut(service: RunningService, key: str) -> None:
    whole = _stream(pa.RecordBatch.from_pylist([ROW, OTHER_ROW] * 50))
    assert _predict(service, key, whole).status == 200
    for length in (0, 1, 7, 9, 100, len(whole) // 3, len(whole) // 2, len(whole) - 200, len(whole) - 20):
        answer = _predict(service, key, whole[:length])
        assert answer.status == 400, (length, answer.body)
        assert answer.json["error"].startswith("the body is not Arrow IPC, or damaged"), answer.body


def test_arrow_that_unpacks_to_too_much_is_refused(service: RunningService, key: str) -> None:
    text = "x" * 2**20
    bomb = _stream(pa.RecordBatch.from_pylist([{**ROW, "carrier": text}] * 100), compression="zstd")
    assert len(bomb) < 2**20
    with _flat_memory(service):
        answer = _predict(service, key, bomb)
    assert (answer.status, answer.json["kind"]) == (413, "too_large")


def test_million_columns_are_refused(service: RunningService, key: str) -> None:
    columns = ",".join(f'"c{number}":[1]' for number in range(1_000_000))
    with _flat_memory(service):
        for body in (f'{{"columns":{{{columns}}}}}', f'{{"rows":[{{{columns}}}]}}'):
            answer = _predict(service, key, body.encode(), "application/json")
            assert answer.status == 413
            assert answer.json["error"] == "more than 1000 columns; send only those that the model needs"
    wide = _stream(pa.record_batch({f"c{number}": [1] for number in range(2_000)}))
    assert _predict(service, key, wide).json["error"].startswith("more than 1000 columns")


def _png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a gray PNG image with a header of any size, more chunks, and a first row of pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (width + 1))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )


def _bombs() -> dict[str, bytes]:
    text = zlib.compress(b" " * 2**26, 9)
    return {
        "pixels": _png(60_000, 60_000),
        "text": _png(8, 8, *[(b"zTXt", b"Comment\0\0" + text)] * 20),
        "profile": _png(8, 8, (b"iCCP", b"profile\0\0" + text)),
        "cut": image_seeds()[0][:-40],
    }


@pytest.mark.parametrize("name", _bombs())
def test_image_bomb_is_refused(service: RunningService, key: str, name: str) -> None:
    good = {**columns_of("mixed"), "picture": base64.b64encode(_png(1, 1)).decode()}
    assert ask(service.url, "/predict?model=mixed", {"rows": [good]}, key=key).status == 200
    bad = {**good, "picture": base64.b64encode(_bombs()[name]).decode()}
    with _flat_memory(service):
        answer = ask(service.url, "/predict?model=mixed", {"rows": [good, bad]}, key=key)
    assert answer.status == 422, answer.body
    (error,) = answer.json["errors"]
    assert (error["row"], error["column"]) == (1, "picture")


# The audit log -----------------------------------------------------------------------------------------------------


@contextmanager
def _full_disk(service: RunningService, path: Path) -> Iterator[None]:
    """Let the kernel cut off what the worker writes to a file beyond a few more bytes, as a full disk does."""
    service.wait_for("serving")
    (pid,) = service.worker_pids()
    worker = psutil.Process(pid)
    usual = worker.rlimit(resource.RLIMIT_FSIZE)
    worker.rlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, usual[1]))
    try:
        yield
    finally:
        worker.rlimit(resource.RLIMIT_FSIZE, usual)


def test_full_disk_of_the_audit_log_refuses_predictions_until_there_is_room(
    service: RunningService, access: Path, key: str
) -> None:
    assert ask(service.url, "/predict", ROWS, key=key).status == 200
    with _full_disk(service, access / "audit.jsonl"):
        for path in ("/predict", "/explain"):
            answer = ask(service.url, path, ROWS, key=key, headers={"x-request-id": "unrecorded"})
            assert (answer.status, answer.json["kind"]) == (503, "audit_unavailable")
            assert int(answer.headers["retry-after"]) > 0
            assert not {"predictions", "explanations"} & set(answer.json)
        assert ask(service.url, "/v2/health/live").status == 200
    answer = ask(service.url, "/predict", ROWS, key=key, headers={"x-request-id": "recorded"})
    assert answer.status == 200
    lines = [json.loads(line) for line in (access / "audit.jsonl").read_text().splitlines()]
    assert "recorded" in {line.get("request_id") for line in lines}
    assert verify_audit(access, read_secret(access, create=False)).is_intact
