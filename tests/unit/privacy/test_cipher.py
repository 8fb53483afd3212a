from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farandole.errors import DataError
from farandole.privacy import Secret, decrypt, decrypt_text, encrypt, encrypt_text
from farandole.privacy.cipher import NONCE_BYTES, OVERHEAD_BYTES, DecryptionError

SECRET = Secret(b"k" * 32, "spring")
OTHER = Secret(b"o" * 32, "autumn")


@given(st.binary(max_size=300), st.binary(max_size=20))
def test_encrypted_content_decrypts_with_the_same_key_and_context(content: bytes, context: bytes) -> None:
    encrypted = encrypt(SECRET, "blocks", context, content)
    assert len(encrypted) == len(content) + OVERHEAD_BYTES
    assert decrypt(SECRET, "blocks", context, encrypted) == content
    assert encrypt(SECRET, "blocks", context, content) == encrypted
    for secret, purpose, other_context in (
        (OTHER, "blocks", context),
        (SECRET, "values", context),
        (SECRET, "blocks", context + b"x"),
    ):
        with pytest.raises(DecryptionError):
            decrypt(secret, purpose, other_context, encrypted)


@given(st.binary(max_size=60), st.data())
def test_every_flipped_bit_and_every_truncation_is_detected(content: bytes, data: st.DataObject) -> None:
    encrypted = bytearray(encrypt(SECRET, "blocks", b"here", content))
    bit = data.draw(st.integers(0, 8 * len(encrypted) - 1))
    encrypted[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DecryptionError):
        decrypt(SECRET, "blocks", b"here", bytes(encrypted))
    with pytest.raises(DecryptionError):
        decrypt(SECRET, "blocks", b"here", bytes(encrypted[: data.draw(st.integers(0, len(encrypted) - 1))]))


@given(st.sets(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), min_size=2, max_size=20))
def test_nonces_differ_for_other_contents_or_contexts(pairs: set[tuple[bytes, bytes]]) -> None:
    nonces = {encrypt(SECRET, "blocks", context, content)[:NONCE_BYTES] for context, content in pairs}
    assert len(nonces) == len(pairs)


@given(st.text())
def test_encrypted_text_decrypts_only_in_its_column(text: str) -> None:
    encrypted = encrypt_text(SECRET, "name", text)
    assert encrypted.isascii()
    assert decrypt_text(SECRET, "name", encrypted) == text
    with pytest.raises(DataError, match="column city: a value cannot be decrypted with the key spring"):
        decrypt_text(SECRET, "city", encrypted)


def test_text_that_was_not_encrypted_is_rejected_without_being_shown() -> None:
    with pytest.raises(DataError) as caught:
        decrypt_text(SECRET, "name", "Ada Lovelace")
    assert "Ada" not in str(caught.value)
