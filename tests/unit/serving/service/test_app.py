from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from farandole.bundle import Bundle
from farandole.serving.access import Access
from farandole.serving.service.app import make_app
from farandole.serving.service.calls import CERTIFICATE
from farandole.serving.service.endpoints import Endpoints
from farandole.serving.service.logs import JsonLog
from farandole.serving.service.metrics import Metrics
from farandole.serving.service.settings import Deployment, ServiceSettings, Variant
from farandole.serving.service.table import ModelTable
from tests.support.access import make_key, open_access
from tests.support.served import ROW


@asynccontextmanager
async def opened(
    bundle: Bundle, *, access: Access | None = None, certificate: str | None = None, **settings: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Endpoints, io.BytesIO]]:
    stream = io.BytesIO()
    log, metrics = JsonLog(stream), Metrics()
    chosen = ServiceSettings(is_open=True, **settings)
    table = ModelTable(chosen, metrics, log)
    await table.apply(Deployment(0, {"flights": (Variant("champion", "x", str(bundle.path), "3", 1.0),)}))
    endpoints = Endpoints(chosen, table, access, metrics, log)
    endpoints.is_ready = True
    app = make_app(endpoints)

    async def connection(scope: Any, receive: Any, send: Any) -> None:
        await app(scope if certificate is None else {**scope, CERTIFICATE: certificate}, receive, send)

    transport = httpx.ASGITransport(connection)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client, endpoints, stream
    await table.drain()


def test_every_answer_has_an_id_and_security_headers(bundle: Bundle) -> None:
    async def run() -> list[httpx.Response]:
        async with opened(bundle) as (client, _, _):
            good = await client.post("/predict", json={"rows": [ROW]}, headers={"x-request-id": "mine"})
            return [good, await client.get("/nothing"), await client.get("/predict"), await client.get("/v2")]

    good, missing, wrong_method, server = asyncio.run(run())
    assert [each.status_code for each in (good, missing, wrong_method, server)] == [200, 404, 405, 200]
    assert good.headers["x-request-id"] == "mine"
    assert wrong_method.headers["allow"] == "POST"
    assert missing.json()["kind"] == "not_found"
    for answer in (good, missing, wrong_method, server):
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_answers_by_tls_ask_browsers_to_use_nothing_else(bundle: Bundle) -> None:
    async def answer(**settings: Any) -> str | None:
        async with opened(bundle, **settings) as (client, _, _):
            return (await client.get("/v2/health/live")).headers.get("strict-transport-security")

    files = {"certificate": "server.pem", "key": "server.key"}
    assert asyncio.run(answer()) is None
    assert asyncio.run(answer(tls=files)) == "max-age=31536000"
    assert asyncio.run(answer(tls=files, hsts_s=0)) is None


def test_audit_log_names_the_certificate_of_the_client(bundle: Bundle, tmp_path: Path) -> None:
    key = make_key(tmp_path, daily_rows=3)

    async def ask(certificate: str | None, sent: str, rows: int) -> int:
        with open_access(tmp_path) as access:
            async with opened(bundle, access=access, certificate=certificate) as (client, _, _):
                headers = {"authorization": f"Bearer {sent}"}
                return (await client.post("/predict", json={"rows": [ROW] * rows}, headers=headers)).status_code

    cases = (("CN=good", key, 1), ("CN=wrong", "fdl_wrong", 1), ("CN=many", key, 4), (None, key, 1))
    assert [asyncio.run(ask(*case)) for case in cases] == [200, 401, 413, 200]
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    shown = [(line["status"], line.get("certificate")) for line in lines if "status" in line]
    assert [each for each in shown if each[0] != 413] == [(200, "CN=good"), (401, "CN=wrong"), (200, None)]
    assert {each for each in shown if each[0] == 413} == {(413, "CN=many")}


def test_terse_errors_have_no_rows(bundle: Bundle) -> None:
    async def run() -> httpx.Response:
        async with opened(bundle, terse_errors=True) as (client, _, _):
            return await client.post("/predict", json={"rows": [{**ROW, "distance": "far"}]})

    answer = asyncio.run(run())
    assert answer.status_code == 422
    assert set(answer.json()) == {"error", "kind", "request_id"}
    assert not {"distance", "far"} & set(answer.text.replace('"', " ").split())


def test_unexpected_error_is_logged_and_says_nothing_to_the_caller(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> tuple[httpx.Response, bytes]:
        async with opened(bundle) as (client, endpoints, stream):
            nothing: dict[str, object] = {}
            monkeypatch.setattr(endpoints.table, "choose", lambda *_: nothing["secret detail"])
            answer = await client.post("/predict", json={"rows": [ROW]})
            return answer, stream.getvalue()

    answer, log = asyncio.run(run())
    assert (answer.status_code, answer.json()["kind"]) == (500, "internal")
    assert "secret" not in answer.text
    assert b"internal_error" in log
    assert answer.json()["request_id"].encode() in log


def test_draining_closes_connections_and_is_not_ready(bundle: Bundle) -> None:
    async def run() -> tuple[httpx.Response, httpx.Response]:
        async with opened(bundle) as (client, endpoints, _):
            endpoints.is_draining = True
            return await client.get("/v2/health/ready"), await client.post("/predict", json={"rows": [ROW]})

    ready, answer = asyncio.run(run())
    assert (ready.status_code, ready.json()) == (503, {"ready": False})
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")


def test_openapi_document_describes_every_path_with_its_errors(bundle: Bundle) -> None:
    async def run() -> Any:
        async with opened(bundle) as (client, _, _):
            return (await client.get("/openapi.json")).json()

    document = asyncio.run(run())
    paths = document["paths"]
    assert {"/predict", "/explain", "/metrics", "/v2/models/{model}/infer"} <= set(paths)
    predict = paths["/predict"]["post"]
    assert {"200", "400", "401", "413", "422", "429", "504"} <= set(predict["responses"])
    assert set(predict["requestBody"]["content"]) == {"application/json", "application/vnd.apache.arrow.stream"}
    versioned = paths["/v2/models/{model}/versions/{version}/infer"]["post"]["parameters"]
    assert {each["name"] for each in versioned} == {"model", "version", "Inference-Header-Content-Length"}
