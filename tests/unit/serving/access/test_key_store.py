from __future__ import annotations

import hmac
import json
import re
from pathlib import Path
from typing import Any

import pytest

from farandole.errors import UserError
from farandole.serving.access.key_store import KEYS_VARIABLE, KeyCache, KeyRecord, KeyStore, KnownKey
from farandole.serving.access.server_secret import read_secret
from tests.support.access import key_store


def _find(cache: KeyCache, key: str) -> KnownKey | None:
    """Look a key up as a request does."""
    cache.refresh()
    return cache.find(key)


def test_key_has_a_recognisable_form_and_256_random_bits(tmp_path: Path) -> None:
    store = key_store(tmp_path)
    keys = [store.create(f"key {number}", ["predict"])[0] for number in range(3)]
    assert all(re.fullmatch("fdl_[0-9a-f]{12}_[0-9a-f]{64}", key) for key in keys)
    assert len({key[-64:] for key in keys}) == 3


def test_file_holds_a_keyed_hash_and_never_the_key(tmp_path: Path) -> None:
    store = key_store(tmp_path)
    key, record = store.create("web", ["explain", "predict"], rate="10/s", daily_rows=5)
    text = (tmp_path / "keys.json").read_text()
    assert key[-64:] not in text
    hash_key = read_secret(tmp_path, create=False).derive("api keys")
    assert record.hash == hmac.digest(hash_key, key.encode(), "sha256").hex()
    assert json.loads(text)["keys"][0]["scopes"] == ["predict", "explain"]
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600
    assert "hash" not in record.public()


def test_name_is_unique_until_its_key_is_revoked(tmp_path: Path) -> None:
    store = key_store(tmp_path)
    store.create("web", ["predict"])
    with pytest.raises(UserError, match="--name: web: a key has this name already; revoke it first"):
        store.create("web", ["predict"])
    store.revoke("web")
    second = store.create("web", ["predict"])[1]
    assert store.revoke("web").id == second.id
    assert [record.state for record in store.records()] == ["revoked", "revoked"]


@pytest.mark.parametrize("name", ["", " web", "a\nb", "x" * 65, "0123456789ab", "a/b", "\x1b[31m"])
def test_name_that_confuses_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="a name has at most 64 letters"):
        key_store(tmp_path).create(name, ["predict"])


def test_key_is_revoked_by_its_id_once(tmp_path: Path) -> None:
    store = key_store(tmp_path)
    record = store.create("web", ["predict"])[1]
    first = store.revoke(record.id)
    assert first.revoked is not None
    assert store.revoke(record.id) == first


def test_unknown_key_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no key has this id or name; `farandole keys list` shows the keys"):
        KeyStore(tmp_path / "missing").revoke("web")
    key_store(tmp_path).create("website", ["predict"])
    with pytest.raises(UserError, match="did you mean website"):
        KeyStore(tmp_path).revoke("websit")


def _document(**changes: Any) -> str:
    record = {"id": "a", "name": "b", "hash": "c", "scopes": [], "created": "d", **changes}
    return json.dumps({"format_version": 1, "keys": [record]})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format_version": 1}',
        '{"format_version": 1, "keys": [{}]}',
        '{"format_version": 1, "keys": [{"id": 3}]}',
        _document(rate="x"),
        _document(expires="e"),
        _document(scopes=7),
    ],
)
def test_damaged_file_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(UserError, match=r"keys\.json: is damaged; restore it from a backup"):
        KeyStore(tmp_path).records()


def test_file_of_another_version_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text('{"format_version": 2, "keys": []}')
    with pytest.raises(UserError, match="has format version 2, and this version of Farandole reads 1"):
        KeyStore(tmp_path).records()


def test_cache_reads_the_file_only_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = key_store(tmp_path)
    key = store.create("web", ["predict"])[0]
    cache = KeyCache(store)
    assert _find(cache, key) is not None
    reads: list[bytes] = []

    def read_nothing(content: bytes, path: Path) -> list[KeyRecord]:
        reads.append(content)
        return []

    monkeypatch.setattr("farandole.serving.access.key_store.decode_records", read_nothing)
    assert _find(cache, key) is not None
    assert reads == []
    store_path = store.path
    store_path.write_bytes(store_path.read_bytes() + b"\n")
    assert _find(cache, key) is None
    assert len(reads) == 1


def test_every_quick_change_is_seen(tmp_path: Path) -> None:
    """The clock of file times is coarse, so changes within one tick differ by their inodes only."""
    store = key_store(tmp_path)
    cache = KeyCache(store)
    for number in range(30):
        key, record = store.create(f"k{number}", ["predict"])
        found = _find(cache, key)
        assert found is not None
        assert found.record == record
        store.revoke(record.id)
        found = _find(cache, key)
        assert found is not None
        assert found.record.revoked
    cache.close()


def test_variable_names_a_file_that_is_replaced_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes mounts a Secret as links into a folder, and replaces the link to that folder."""
    maker = key_store(tmp_path)
    key, record = maker.create("web", ["predict"])
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    (tmp_path / "old" / "keys").write_bytes(maker.path.read_bytes())
    maker.revoke("web")
    (tmp_path / "new" / "keys").write_bytes(maker.path.read_bytes())
    (tmp_path / "data").symlink_to("old")
    (tmp_path / "keys").symlink_to("data/keys")
    monkeypatch.setenv(KEYS_VARIABLE, str(tmp_path / "keys"))
    cache = KeyCache(key_store(tmp_path))
    found = _find(cache, key)
    assert found is not None
    assert found.record == record
    (tmp_path / "link").symlink_to("new")
    (tmp_path / "link").rename(tmp_path / "data")
    found = _find(cache, key)
    assert found is not None
    assert found.record.state == "revoked"


def test_key_that_was_found_is_compared_whole(tmp_path: Path) -> None:
    store = key_store(tmp_path)
    key = store.create("web", ["predict"])[0]
    cache = KeyCache(store)
    for _ in range(2):  # the second time, the key is remembered
        assert _find(cache, key) is not None
        assert _find(cache, key[:-1] + ("0" if key[-1] != "0" else "1")) is None
        for wrong in (key[:-1], key + "0", key.upper(), key[:16], "", "fdl_", "\0" * 81, "\0" * 12):
            assert _find(cache, wrong) is None


def test_remembered_key_is_forgotten_with_its_record(tmp_path: Path) -> None:
    store = key_store(tmp_path)
    key = store.create("web", ["predict"])[0]
    cache = KeyCache(store)
    assert _find(cache, key) is not None
    store.path.write_text('{"format_version": 1, "keys": []}')
    assert _find(cache, key) is None
    store.path.unlink()
    assert _find(cache, key) is None


def test_key_of_another_secret_is_unknown(tmp_path: Path) -> None:
    key = key_store(tmp_path).create("web", ["predict"])[0]
    (tmp_path / "secret").unlink()
    assert _find(KeyCache(key_store(tmp_path)), key) is None
