from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from farandole.errors import UserError
from farandole.serving.access.token_keys import TokenKeys, parse_key_set
from tests.support.identity_provider import key_set, make_signing_key


def _public(**changes: Any) -> dict[str, Any]:
    return {**make_signing_key().as_dict(private=False), **changes}


def _set(*keys: Any) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        _set(),
        _set(7),
        _set({"kty": "EC"}),
        _set({"kty": "EC", "x": 3}),
        b"[" * 100_000,
    ],
)
def test_content_without_a_usable_key_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_key_set(content)


def test_unsuitable_keys_are_left_out() -> None:
    keys = [
        _public(kid="good"),
        _public(kid="encryption", use="enc"),
        _public(kid="operations", key_ops=["encrypt"]),
        _public(kid=7),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
        {"kty": "LMS", "kid": "unknown"},
    ]
    with pytest.warns(Warning, match="2048"):
        keys.append({**RSAKey.generate_key(1024).as_dict(private=False), "kid": "short", "use": "sig"})
    assert set(parse_key_set(_set(*keys))) == {"good"}


def test_published_private_key_is_used_as_a_public_one() -> None:
    found = parse_key_set(_set(make_signing_key("a").as_dict(private=True)))
    assert not found["a"][0].is_private


def test_key_for_another_algorithm_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(_set(_public(kid="a", alg="ES512")))
    assert TokenKeys(str(tmp_path / "keys"), tmp_path).find("a", "ES256", ("EC",)) is None


def test_file_is_read_again_for_an_unknown_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("farandole.serving.access.token_keys", fromlist=["a"])._MIN_PAUSE_S, "file", 0.0)
    file = tmp_path / "keys"
    file.write_text(key_set(make_signing_key("a")))
    keys = TokenKeys(str(file), tmp_path)
    file.write_text(key_set(make_signing_key("b")))
    assert keys.find("b", "ES256", ("EC",)) is None
    asyncio.run(keys.refresh())
    assert keys.find("b", "ES256", ("EC",)) is not None
    assert keys.version == 2


def test_damaged_file_leaves_the_keys_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("farandole.serving.access.token_keys", fromlist=["a"])._MIN_PAUSE_S, "file", 0.0)
    file = tmp_path / "keys"
    file.write_text(key_set(make_signing_key("a")))
    keys = TokenKeys(str(file), tmp_path)
    file.write_text("{")
    asyncio.run(keys.refresh())
    assert keys.find("a", "ES256", ("EC",)) is not None
    assert "the keys that were read before stay in use" in caplog.text


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the token keys cannot be read \(No such file or directory\)"):
        TokenKeys(str(tmp_path / "missing"), tmp_path)


def test_authority_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    url = "https://127.0.0.1:9/keys"
    with pytest.raises(UserError, match=r"missing\.pem: "):
        TokenKeys(url, tmp_path, tmp_path / "missing.pem")
    (tmp_path / "text.pem").write_text("not a certificate")
    with pytest.raises(UserError, match=r"text\.pem: is not a certificate in PEM form"):
        TokenKeys(url, tmp_path, tmp_path / "text.pem")
    (tmp_path / "keys").write_text(key_set(make_signing_key("a")))
    with pytest.raises(UserError, match="is the authority of a server, and the token keys are not read by https"):
        TokenKeys(str(tmp_path / "keys"), tmp_path, tmp_path / "text.pem")


@pytest.mark.parametrize("url", ["http://login.example.org/keys", "ftp://localhost/keys", "file:///etc/passwd"])
def test_insecure_url_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match="token keys are read by https, or by http from this machine"):
        TokenKeys(url, tmp_path)
