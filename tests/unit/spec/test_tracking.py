from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from farandole.errors import SpecError
from farandole.spec import Tracking, parse_job


@pytest.mark.parametrize(
    "uri",
    ["postgresql://user:secret@host/db", "http://user:secret@host:5000", "https://:secret@host"],
)
def test_password_in_the_tracking_uri_is_rejected(raw: dict[str, Any], uri: str) -> None:
    with pytest.raises(SpecError, match=r"tracking\.uri: .*a password does not belong in a job file"):
        parse_job({**raw, "tracking": {"uri": uri}})


def test_error_about_a_password_does_not_show_it(raw: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        parse_job({**raw, "tracking": {"uri": "postgresql://user:s3cr3t@host/db"}})
    assert "s3cr3t" not in str(caught.value)


def test_password_from_a_variable_is_rejected(raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKING", "http://user:s3cr3t@host")
    with pytest.raises(SpecError, match="a password does not belong"):
        parse_job({**raw, "tracking": {"uri": "${TRACKING}"}})


@pytest.mark.parametrize("uri", ["http://host:5000", "postgresql://user@host/db", "sqlite:////tmp/a.db"])
def test_tracking_uri_without_a_password_is_unchanged(uri: str) -> None:
    assert Tracking(uri=uri).uri == uri


@pytest.mark.parametrize("name", ["a/b", "a:b"])
def test_registered_model_name_rejects_slash_and_colon(name: str) -> None:
    with pytest.raises(ValidationError, match="has no `/` and no `:`"):
        Tracking(register_as=name)


@pytest.mark.parametrize("uri", ["postgresql://h/db?user=u&password=s3cr3t", "postgresql://h/db?sslpassword=s3cr3t"])
def test_password_in_the_query_of_a_uri_is_rejected_without_repeating_it(uri: str) -> None:
    with pytest.raises(ValidationError, match="a password does not belong in a job file") as caught:
        Tracking.model_validate({"uri": uri})
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("uri", ["http://:5000", "https://", "http:///runs"])
def test_address_without_a_host_is_rejected(uri: str) -> None:
    with pytest.raises(ValidationError, match=r"the address names no host; write http://HOST:PORT"):
        Tracking(uri=uri)
