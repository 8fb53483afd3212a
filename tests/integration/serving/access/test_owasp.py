"""OWASP's API Security Top 10 (2023), risk by risk, against a running service; docs/security.md has the words.

The tenth is in `test_identity_provider.py` (answers of the provider) and `test_service.py` (damaged bundles).
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from farandole.bundle import Bundle
from farandole.serving.access import SECURITY_HEADERS
from tests.support.access import avoid_midnight, key_store, make_key
from tests.support.identity_provider import AUDIENCE, ISSUER, key_set, make_claims, make_signing_key, make_token
from tests.support.served import ROW, RunningService
from tests.support.service_clients import Answer, ask

ROWS = {"rows": [ROW]}
SIGNING_KEY = make_signing_key()
PUBLIC = {"/v2/health/live", "/v2/health/ready"}


KEY_SCOPES = ("predict",)
SERVICE_OPTIONS = (
    *("--workers", "2", "--poll", "0", "--max-body", "0.1"),
    *("--oidc-issuer", ISSUER, "--oidc-audience", AUDIENCE, "--oidc-keys", "{access}/provider.json"),
)


@pytest.fixture(scope="module", autouse=True)
def _provider(access: Path) -> None:
    (access / "provider.json").write_text(key_set(SIGNING_KEY))


def _predict(service: RunningService, credential: str, document: Any = ROWS, **options: Any) -> Answer:
    return ask(service.url, "/predict", None if "body" in options else document, key=credential, **options)


def _assert_reveals_nothing(answer: Answer, bundle: Bundle) -> None:
    text = answer.body.decode()
    for secret in (bundle.name, bundle.digest, *ROW, "Traceback", "farandole/", "/tmp"):
        assert secret not in text


def test_api1_object_level_no_path_leads_to_files_of_the_service(
    service: RunningService, key: str, access: Path, bundle: Bundle
) -> None:
    names = ["..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/keys.json", str(access / "keys.json").replace("/", "%2f"), "%00"]
    for name in names:
        for path in (f"/v2/models/{name}", f"/page/assets/{name}/{name}", f"/{name}"):
            answer = ask(service.url, path, key=key)
            assert answer.status == 404
            _assert_reveals_nothing(answer, bundle)


def test_api2_authentication_of_keys(service: RunningService, access: Path, key: str, bundle: Bundle) -> None:
    assert _predict(service, key).status == 200
    expired = make_key(access, "old", expires=datetime.now(UTC) - timedelta(seconds=1))
    revoked = make_key(access, "lost")
    assert _predict(service, revoked).status == 200
    key_store(access).revoke("lost")
    for credential in (expired, revoked, key[:-1] + "x", key.upper(), f"fdl_{'0' * 12}_{'0' * 64}", "x", "a.b.c"):
        answer = _predict(service, credential)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        _assert_reveals_nothing(answer, bundle)
    assert _predict(service, key, headers={"x-api-key": key}).status == 401
    assert ask(service.url, f"/predict?key={key}", ROWS).status == 401


def test_api2_authentication_of_tokens(service: RunningService) -> None:
    assert _predict(service, make_token(SIGNING_KEY)).status == 200
    unsigned = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "none"}, make_claims())
    )
    other = make_signing_key()
    own_key = make_token(other, header={"jwk": other.as_dict(private=False)})
    wrong = [
        unsigned + ".",
        own_key,
        make_token(SIGNING_KEY, aud="other"),
        make_token(SIGNING_KEY, exp=1_700_000_000),
        make_token(SIGNING_KEY, nbf=4_000_000_000),
    ]
    assert [_predict(service, token).status for token in wrong] == [401] * 5


def test_api3_property_level_only_declared_columns_go_in_and_only_predictions_come_out(
    service: RunningService, key: str
) -> None:
    plain = _predict(service, key).json
    more = _predict(service, key, {"rows": [{**ROW, "is_admin": True, "__proto__": {}, "label": 1}]}).json
    assert more["predictions"] == plain["predictions"]
    assert set(plain) == {"model", "predictions"}
    assert set(plain["model"]) == {"name", "version", "digest"}


def test_api4_resources_are_limited(service: RunningService, access: Path, key: str) -> None:
    fast = make_key(access, "fast", rate="3/h")
    answers = [_predict(service, fast) for _ in range(5)]  # two workers share the limit
    assert [answer.status for answer in answers] == [200] * 3 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) > 60
    avoid_midnight()
    many = make_key(access, "many", daily_rows=5)
    assert _predict(service, many, {"rows": [ROW] * 4}).status == 200
    assert _predict(service, many, {"rows": [ROW] * 2}).status == 429
    assert _predict(service, many).status == 200
    assert _predict(service, key, body=b"[" * 90_000).status == 400
    assert _predict(service, key, body=b" " * 110_000).status == 413


def test_api5_function_level_every_route_needs_its_scope(
    service: RunningService, access: Path, key: str, bundle: Bundle
) -> None:
    paths = ask(service.url, "/openapi.json", key=key).json["paths"]
    assert len(paths) > 8
    weak = make_key(access, "explain only", ("explain",))
    for path, methods in paths.items():
        real = path.replace("{model}", bundle.name).replace("{version}", "1")
        document = ROWS if "post" in methods else None
        answer = ask(service.url, real, document)
        assert answer.status == (200 if path in PUBLIC else 401), path
        if path not in PUBLIC:
            _assert_reveals_nothing(answer, bundle)
            is_explained = path.endswith("/explain")
            assert (ask(service.url, real, document, key=weak).status == 403) != is_explained, path
    assert ask(service.url, "/metrics", key=key).status == 403
    assert ask(service.url, "/metrics", key=make_key(access, "prometheus", ("admin",))).status == 200


def test_api6_business_flow_every_prediction_is_in_the_audit_log(
    service: RunningService, access: Path, key: str, bundle: Bundle
) -> None:
    asked = _predict(service, key, headers={"x-request-id": "walk-6"})
    assert asked.status == 200
    lines = [json.loads(line) for line in (access / "audit.jsonl").read_text().splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "walk-6"]
    assert (line["name"], line["digest"], line["rows"]) == ("web", bundle.digest, 1)


def test_api7_no_request_makes_the_service_fetch_something(service: RunningService, key: str) -> None:
    for model in ("http://127.0.0.1:1/", "models:/other/1", "file:///etc/passwd", "s3://bucket/model"):
        assert ask(service.url, f"/predict?model={model}", ROWS, key=key).status == 404


def test_api8_configuration_headers_methods_and_errors(service: RunningService, key: str, bundle: Bundle) -> None:
    answers = [
        ask(service.url, "/v2/health/live"),
        ask(service.url, "/"),
        ask(service.url, "/none", key=key),
        _predict(service, "x"),
        _predict(service, key, headers={"origin": "https://evil.example.org"}),
        _predict(service, key, body=b"\xff"),
        _predict(service, key, body=b"{}", headers={"content-type": "application/x-python-pickle"}),
    ]
    assert [answer.status for answer in answers] == [200, 200, 404, 401, 200, 400, 415]
    for answer in answers:
        assert set(SECURITY_HEADERS) <= set(answer.headers)
        assert "server" not in answer.headers
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert b"Traceback" not in answer.body


def test_api9_inventory_is_complete_and_guarded(service: RunningService, key: str) -> None:
    for path in ("/openapi.json", "/docs", "/redoc", "/v2", "/v2/models", "/none"):
        assert ask(service.url, path).status == 401
    for path in ("/docs", "/redoc", "/none", "/v1/models"):
        assert ask(service.url, path, key=key).status == 404
