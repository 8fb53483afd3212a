from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farandole.errors import SpecError
from farandole.spec import Job, Serve, job_text, load_job, parse_job

DATA = {"sources": {"flights": {"path": "/flights.csv"}}, "features": {"distance": {"kind": "numeric"}}}


def job(serve: dict[str, Any] | None, folder: str = "/jobs") -> Job:
    raw: dict[str, Any] = {"name": "flights", "data": DATA, "serve": serve}
    return parse_job(raw, folder=folder)


def part(**fields: Any) -> Serve:
    found = job(fields).serve
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"port": 70_000}, r"serve\.port: 70000: must be at most 65535"),
        ({"prot": 1}, r"serve\.prot: unknown key; did you mean `port`\?"),
        ({"workers": 0}, r"serve\.workers: 0: must be at least 1"),
        ({"audit": "maybe"}, r"serve\.audit: 'maybe': must be 'on', 'off' or 'required'"),
        ({"split": {"champion": 1.5}}, r"serve\.split\.champion: 1\.5: must be at most 1"),
        ({"split": {"champion": 0.5}}, r"serve\.split: the shares add up to 0\.5; make them add up to 1"),
        ({"oidc_issuer": "https://a"}, r"serve\.oidc_audience: is missing; tokens need"),
        ({"oidc_rate": "10/s"}, r"serve\.oidc_issuer: is missing; tokens need"),
        ({"oidc_rate": "often"}, r"serve\.oidc_rate: 'often': must be a number of requests and a period, as in 10/s"),
        ({"oidc_rate": "0/s"}, r"serve\.oidc_rate: must be a number of requests"),
        ({"oidc_daily_rows": 0}, r"serve\.oidc_daily_rows: 0: must be at least 1"),
        ({"hsts_max_age": -1}, r"serve\.hsts_max_age: -1: must be at least 0"),
        ({"tls_cert": "a.pem"}, r"serve\.tls_cert, serve\.tls_key: one without the other; name both files"),
        ({"tls_client_ca": "a.pem"}, r"serve\.tls_client_ca: without effect; name tls_cert"),
    ],
)
def test_wrong_part_is_refused_with_place_rule_and_remedy(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        job(fields)


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"tls_key": "-----BEGIN PRIVATE KEY-----\nsecret"}, "write the path of its file"),
        ({"oidc_ca": "-----BEGIN CERTIFICATE-----\nsecret"}, "write the path of its file"),
        ({"public_key": "-----BEGIN PUBLIC KEY-----\nsecret"}, "write the path of its file"),
        ({"oidc_issuer": "https://user:secret@issuer"}, "must not contain a password"),
        ({"oidc_keys": "https://user:secret@issuer/keys"}, "contains credentials"),
    ],
)
def test_secret_is_refused_and_not_repeated(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(SpecError, match=rule) as refused:
        job(fields)
    assert "secret" not in str(refused.value)


def test_models_are_named_or_those_of_the_job() -> None:
    assert part().models_of("flights") == ("models:/flights@champion",)
    assert part(alias="trial").models_of("flights") == ("models:/flights@trial",)
    assert part(split={"a": 0.5, "b": 0.5}).models_of("flights") == ("models:/flights",)
    named = part(models=["bundles/a", "models:/other/3", "runs:/1/model"])
    assert named.models_of("flights") == ("/jobs/bundles/a", "models:/other/3", "runs:/1/model")
    with pytest.raises(SpecError, match=r"serve\.models: is missing"):
        part().models_of(None)


def test_part_is_written_and_read_back_with_overrides(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(job_text(job({"port": 9000, "payload_log": "rows"}, str(tmp_path)), tmp_path), encoding="utf-8")
    found = load_job(path, ["serve.port=9001", "serve.audit=off", "serve.split.champion=1"]).serve
    assert found is not None
    assert (found.port, found.audit, found.split) == (9001, "off", {"champion": 1.0})
    assert found.payload_log == str(tmp_path / "rows")


def test_job_is_the_same_but_for_the_part() -> None:
    with_part, without = job({"port": 9000}), job(None)
    assert with_part.model_copy(update={"serve": None}) == without
    assert with_part.data == without.data
