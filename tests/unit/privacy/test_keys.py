from __future__ import annotations

import base64
import pickle
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from farandole.errors import SpecError
from farandole.privacy import Secret, read_key
from farandole.spec import KeyReference

KEY = bytes(range(32))
keys = st.binary(min_size=32, max_size=32)


@given(keys, st.text(max_size=20))
def test_derived_keys_follow_rfc_5869(key: bytes, purpose: str) -> None:
    expected = HKDF(SHA256(), 32, salt=None, info=purpose.encode()).derive(key)
    assert Secret(key, "k").derive(purpose) == expected


@given(keys, keys)
def test_fingerprint_identifies_keys_and_reveals_nothing_about_them(first: bytes, second: bytes) -> None:
    one, two = Secret(first, "k"), Secret(second, "k")
    assert (one.fingerprint == two.fingerprint) == (first == second)
    assert one.fingerprint not in first.hex()


def test_key_never_appears_in_text() -> None:
    secret = Secret(KEY, "spring")
    assert repr(secret) == str(secret) == f"{secret}" == "<key spring>"
    assert not hasattr(secret, "__dict__")
    assert pickle.loads(pickle.dumps(secret)).derive("x") == secret.derive("x")


@pytest.mark.parametrize("text", [KEY.hex(), KEY.hex().upper(), base64.b64encode(KEY).decode(), f" {KEY.hex()}\n"])
def test_key_is_hexadecimal_or_base64(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("THE_KEY", text)
    secret = read_key(KeyReference(environment="THE_KEY"), "data.privacy.key")
    assert secret.derive("x") == Secret(KEY, "").derive("x")
    assert secret.name == "THE_KEY"
    assert read_key(KeyReference(environment="THE_KEY", id="spring"), "data.privacy.key").name == "spring"


@pytest.mark.parametrize(
    "text", ["hunter2", KEY.hex()[:-2], "z" * 64, "s3cret-" * 9, base64.b64encode(KEY[:31]).decode()]
)
def test_invalid_key_is_rejected_and_not_shown(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("THE_KEY", text)
    with pytest.raises(SpecError) as caught:
        read_key(KeyReference(environment="THE_KEY"), "data.privacy.key")
    message = str(caught.value)
    assert message.startswith(
        f"data.privacy.key.environment: THE_KEY: contains {len(text)} characters that are not a key"
    )
    assert "openssl rand -hex 32" in message
    assert text not in message


def test_unset_key_variable_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THE_KEY", raising=False)
    with pytest.raises(SpecError, match=r"^data\.privacy\.key\.environment: THE_KEY: the variable is not set"):
        read_key(KeyReference(environment="THE_KEY"), "data.privacy.key")


def test_key_file_must_be_private_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = KeyReference(file=str(path))
    with pytest.raises(SpecError, match="cannot be read"):
        read_key(key, "shards.encryption.key")
    path.write_text(KEY.hex())
    for mode in (0o644, 0o640, 0o604):
        path.chmod(mode)
        with pytest.raises(SpecError, match=rf"its mode is {mode:04o}, so other users can access the key; `chmod 600"):
            read_key(key, "shards.encryption.key")
    for mode in (0o600, 0o400):
        path.chmod(mode)
        assert read_key(key, "shards.encryption.key").fingerprint == Secret(KEY, "").fingerprint
