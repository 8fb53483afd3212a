"""A signature shows who made a bundle, and that nothing was changed since."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from farandole.bundle import open_bundle
from farandole.bundle.manifest import SIGNATURE, write_manifest
from farandole.bundle.signing import create_key, sign
from farandole.errors import BundleError


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "card.md").write_text("a model")
    write_manifest(folder, "small")
    return folder


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    assert create_key(path) == tmp_path / "key.pem.pub"
    return path


def test_a_signed_bundle_opens_with_the_public_key_and_without(bundle: Path, key: Path, tmp_path: Path) -> None:
    key_id = sign(bundle, key)
    assert json.loads((bundle / SIGNATURE).read_text())["key_id"] == key_id
    assert open_bundle(bundle, tmp_path / "key.pem.pub").digest == open_bundle(bundle).digest


def test_only_its_user_can_read_a_private_key_and_it_is_never_replaced(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    with pytest.raises(BundleError, match="exists already; a key is never replaced"):
        create_key(key)
    assert key.read_bytes() == before


def test_a_bundle_without_a_signature_is_rejected_where_one_is_asked_for(bundle: Path, key: Path) -> None:
    with pytest.raises(BundleError, match="is not signed"):
        open_bundle(bundle, key.with_name("key.pem.pub"))


def test_the_signature_of_another_key_is_rejected(bundle: Path, key: Path, tmp_path: Path) -> None:
    sign(bundle, key)
    other = create_key(tmp_path / "other.pem")
    with pytest.raises(BundleError, match="was made with the key"):
        open_bundle(bundle, other)
    document = json.loads((bundle / SIGNATURE).read_text())
    sign(bundle, tmp_path / "other.pem")
    forged = {**json.loads((bundle / SIGNATURE).read_text()), "signature": document["signature"]}
    (bundle / SIGNATURE).write_text(json.dumps(forged))
    with pytest.raises(BundleError, match="does not match the manifest"):
        open_bundle(bundle, other)


def test_a_manifest_that_was_changed_after_signing_is_rejected(bundle: Path, key: Path) -> None:
    sign(bundle, key)
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace("small", "smart"))
    with pytest.raises(BundleError, match="does not match the manifest"):
        open_bundle(bundle, key.with_name("key.pem.pub"))


def test_writing_the_manifest_again_removes_the_signature(bundle: Path, key: Path) -> None:
    sign(bundle, key)
    write_manifest(bundle, "small")
    assert not (bundle / SIGNATURE).exists()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"key_id": 1}', '{"key_id": "a", "signature": "%%%"}', '{"key_id": "a", "signature": 3}']
)
def test_what_is_not_a_signature_is_rejected(bundle: Path, key: Path, text: str) -> None:
    (bundle / SIGNATURE).write_text(text)
    with pytest.raises(BundleError, match="is not a signature"):
        open_bundle(bundle, key.with_name("key.pem.pub"))


def test_files_that_are_not_keys_are_rejected(bundle: Path, key: Path, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(BundleError, match="is not an Ed25519 key without a password"):
        sign(bundle, nonsense)
    with pytest.raises(BundleError, match="nonsense: is not a public key"):
        open_bundle(bundle, nonsense)
    with pytest.raises(BundleError, match="no-such: No such file"):
        open_bundle(bundle, tmp_path / "no-such")
    with pytest.raises(BundleError, match="is not a public key"):
        open_bundle(bundle, key)
