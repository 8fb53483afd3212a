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
def test_encrypted_content_decrypts_with_the_same_key_and_context(content: bytes, place: bytes) -> None:
    sealed = encrypt(SECRET, "blocks", place, content)
    assert len(sealed) == len(content) + OVERHEAD_BYTES
    assert decrypt(SECRET, "blocks", place, sealed) == content
    assert encrypt(SECRET, "blocks", place, content) == sealed
    for secret, purpose, elsewhere in (
        (OTHER, "blocks", place),
        (SECRET, "values", place),
        (SECRET, "blocks", place + b"x"),
    ):
        with pytest.raises(DecryptionError):
            decrypt(secret, purpose, elsewhere, sealed)


@given(st.binary(max_size=60), st.data())
def test_every_flipped_bit_and_every_truncation_is_detected(content: bytes, data: st.DataObject) -> None:
    sealed = bytearray(encrypt(SECRET, "blocks", b"here", content))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DecryptionError):
        decrypt(SECRET, "blocks", b"here", sealed)
    with pytest.raises(DecryptionError):
        decrypt(SECRET, "blocks", b"here", bytes(sealed[: data.draw(st.integers(0, len(sealed) - 1))]))


@given(st.sets(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), min_size=2, max_size=20))
def test_nonces_differ_for_other_contents_or_contexts(pairs: set[tuple[bytes, bytes]]) -> None:
    nonces = {encrypt(SECRET, "blocks", place, content)[:NONCE_BYTES] for place, content in pairs}
    assert len(nonces) == len(pairs)


@given(st.text())
def test_encrypted_text_decrypts_only_in_its_column(text: str) -> None:
    sealed = encrypt_text(SECRET, "name", text)
    assert sealed.isascii()
    assert decrypt_text(SECRET, "name", sealed) == text
    with pytest.raises(DataError, match="column city: a value cannot be decrypted with the key spring"):
        decrypt_text(SECRET, "city", sealed)


def test_text_that_was_not_encrypted_is_rejected_without_being_shown() -> None:
    with pytest.raises(DataError) as caught:
        decrypt_text(SECRET, "name", "Ada Lovelace")
    assert "Ada" not in str(caught.value)
