from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from farandole.errors import UserError
from farandole.serving.access import Access, AccessConfig, AccessDenied
from farandole.serving.access.key_store import KeyCache
from tests.support.access import MODEL, authorize, bearer, full_after, key_store, make_key, open_access, record


def _refused(access: Access, credential: str, scope: Any = "predict") -> AccessDenied:
    with pytest.raises(AccessDenied) as caught:
        authorize(access, credential, scope)
    return caught.value


def _log(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "audit.jsonl").read_text().splitlines()]


def test_key_identifies_its_caller(tmp_path: Path) -> None:
    key = make_key(tmp_path, scopes=("predict", "explain"), rate="10/s", daily_rows=500)
    with open_access(tmp_path) as access:
        caller = authorize(access, key, "explain")
    assert caller.id == f"key:{key.split('_')[1]}"
    assert (caller.name, str(caller.rate), caller.daily_rows) == ("web", "10/s", 500)
    assert caller.scopes == frozenset({"predict", "explain"})


def test_key_in_its_own_header_is_accepted(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    with open_access(tmp_path) as access:
        caller = asyncio.run(access.authorize([(b"x-api-key", key.encode())], "predict"))
    assert caller.name == "web"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Basic YTpi")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer fdl_000000000000_" + b"0" * 64)],
        [(b"authorization", b"Bearer fdl_\xff\xfe")],
        [(b"authorization", b"Bearer a.b.c")],
        [(b"x-api-key", b"")],
    ],
)
def test_request_without_a_valid_key_is_refused_with_401(tmp_path: Path, headers: list[tuple[bytes, bytes]]) -> None:
    make_key(tmp_path)
    with open_access(tmp_path) as access, pytest.raises(AccessDenied) as caught:
        asyncio.run(access.authorize(headers, "predict"))
    assert caught.value.status == 401
    assert caught.value.code == "unauthenticated"
    assert caught.value.headers == {"WWW-Authenticate": 'Bearer realm="farandole"'}
    assert "web" not in caught.value.public_message


def test_wrong_secret_and_unknown_id_get_the_same_answer(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
    unknown = f"fdl_{'0' * 12}_{'1' * 64}"
    with open_access(tmp_path) as access:
        answers = [_refused(access, credential) for credential in (wrong, unknown)]
    assert len({(each.status, each.code, each.public_message, each.caller) for each in answers}) == 1


def test_two_keys_in_one_request_are_refused(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    headers = [*bearer(key), (b"x-api-key", key.encode())]
    with open_access(tmp_path) as access, pytest.raises(AccessDenied, match="several keys"):
        asyncio.run(access.authorize(headers, "predict"))


def test_revoked_key_stops_working_at_once(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    with open_access(tmp_path) as access:
        authorize(access, key)
        key_store(tmp_path).revoke("web")
        denied = _refused(access, key)
    assert (denied.status, denied.code) == (401, "key_revoked")


def test_keys_file_is_looked_at_once_in_a_turn_and_again_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key(tmp_path)
    looks: list[None] = []
    refresh = KeyCache.refresh

    def refresh_and_count(cache: KeyCache) -> None:
        looks.append(None)
        refresh(cache)

    monkeypatch.setattr(KeyCache, "refresh", refresh_and_count)

    async def ask(access: Access) -> list[int]:
        counts = []
        for _ in range(3):
            await asyncio.gather(*(access.authorize(bearer(key), "predict") for _ in range(10)))
            counts.append(len(looks))
        key_store(tmp_path).revoke("web")
        with pytest.raises(AccessDenied, match="revoked"):
            await asyncio.gather(*(access.authorize(bearer(key), "predict") for _ in range(10)))
        return counts

    with open_access(tmp_path) as access:
        started = len(looks)
        assert asyncio.run(ask(access)) == [started + 1, started + 2, started + 3]


def test_every_request_of_a_turn_is_refused_where_the_keys_cannot_be_read(tmp_path: Path) -> None:
    key = make_key(tmp_path)

    async def ask(access: Access) -> list[Any]:
        requests = [access.authorize(bearer(key), "predict") for _ in range(4)]
        return await asyncio.gather(*requests, return_exceptions=True)

    with open_access(tmp_path) as access:
        (tmp_path / "keys.json").write_text("{")
        assert [denied.code for denied in asyncio.run(ask(access))] == ["keys_unavailable"] * 4


def test_certificate_of_the_client_is_in_the_audit_log(tmp_path: Path) -> None:
    key = make_key(tmp_path, daily_rows=5)
    with open_access(tmp_path) as access:
        caller = asyncio.run(access.authorize(bearer(key), "predict", "CN=client"))
        record(access, caller, "predict", 200, rows=1, certificate="CN=client", **MODEL)
        with pytest.raises(AccessDenied):
            access.charge(caller, 6, "CN=client")
        with pytest.raises(AccessDenied):
            asyncio.run(access.authorize(bearer("fdl_wrong"), "predict", "CN=client"))
    assert [line.get("certificate") for line in _log(tmp_path)] == [None, *["CN=client"] * 3, None]


def test_new_key_works_at_once(tmp_path: Path) -> None:
    with open_access(tmp_path) as access:
        assert authorize(access, make_key(tmp_path)).name == "web"


def test_expired_key_is_refused(tmp_path: Path) -> None:
    key = make_key(tmp_path, expires=datetime.now(UTC) - timedelta(seconds=5))
    with open_access(tmp_path) as access:
        denied = _refused(access, key)
    assert (denied.status, denied.code) == (401, "key_expired")
    assert denied.public_message.startswith("The key expired at 20")


def test_missing_scope_is_refused_with_403(tmp_path: Path) -> None:
    key = make_key(tmp_path, scopes=("admin",))
    with open_access(tmp_path) as access:
        denied = _refused(access, key, "predict")
    assert (denied.status, denied.code) == (403, "scope_missing")
    assert "scope predict" in denied.public_message


def test_damaged_keys_file_refuses_everybody_with_503(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = make_key(tmp_path)
    with open_access(tmp_path) as access:
        authorize(access, key)
        (tmp_path / "keys.json").write_text("{")
        denied = _refused(access, key)
    assert (denied.status, denied.code, denied.retry_after_s) == (503, "keys_unavailable", 5)
    assert str(tmp_path) not in denied.public_message
    assert "keys.json: is damaged" in caplog.text


def test_removed_keys_file_refuses_everybody(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    with open_access(tmp_path) as access:
        authorize(access, key)
        (tmp_path / "keys.json").unlink()
        assert _refused(access, key).status == 401


def test_answers_and_refusals_are_in_the_audit_log(tmp_path: Path) -> None:
    key = make_key(tmp_path, daily_rows=10)
    with open_access(tmp_path) as access:
        caller = authorize(access, key)
        access.charge(caller, 7)
        record(access, caller, "predict", 200, rows=7, **MODEL)
        with pytest.raises(AccessDenied):
            access.charge(caller, 4)
        for _ in range(3):
            _refused(access, "fdl_wrong")
    opened, answer, *refusals, closed = _log(tmp_path)
    assert (opened["event"], closed["event"]) == ("opened", "closed")
    assert {"caller": caller.id, "name": "web", "action": "predict", "status": 200, "rows": 7, **MODEL}.items() <= (
        answer.items()
    )
    counts = {(each["caller"], each["code"]): 0 for each in refusals}
    for each in refusals:
        counts[each["caller"], each["code"]] += each["count"]
    assert counts == {(caller.id, "quota_exhausted"): 1, (None, "unauthenticated"): 3}


def test_no_secret_is_in_any_file(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    with open_access(tmp_path) as access:
        record(access, authorize(access, key), "predict", 200, rows=1, **MODEL)
        _refused(access, key + "0")
    secret = key.rpartition("_")[2].encode()
    assert all(secret not in path.read_bytes() for path in tmp_path.iterdir())


def test_line_that_cannot_be_written_is_counted_where_the_audit_is_not_required(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = make_key(tmp_path)
    with open_access(tmp_path) as access:
        caller = authorize(access, key)
        with full_after(tmp_path / "audit.jsonl", 40):
            record(access, caller, "predict", 200, rows=1, **MODEL)
        assert access.audit_failures == 1
    assert "a line of the audit log was not written" in caplog.text
    assert [each.get("event") for each in _log(tmp_path)] == ["opened", "closed"]


def test_request_that_cannot_be_recorded_is_refused_where_the_audit_is_required(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    with open_access(tmp_path, audit_required=True) as access:
        caller = authorize(access, key)
        with full_after(tmp_path / "audit.jsonl", 40), pytest.raises(AccessDenied) as caught:
            record(access, caller, "predict", 200, rows=1, **MODEL)
        record(access, caller, "predict", 200, rows=1, **MODEL)
    assert (caught.value.status, caught.value.code, caught.value.retry_after_s) == (503, "audit_unavailable", 5)
    assert len(_log(tmp_path)) == 3


def test_directory_that_cannot_be_created_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose a directory that can be created"):
        Access.open(AccessConfig(directory=tmp_path / "file" / "access"))


def test_log_that_cannot_be_opened_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    with pytest.raises(UserError, match=r"audit\.jsonl: Is a directory"):
        Access.open(AccessConfig(directory=tmp_path))


def test_directory_is_private(tmp_path: Path) -> None:
    with open_access(tmp_path / "access"):
        modes = {path.name: path.stat().st_mode & 0o077 for path in (tmp_path / "access").iterdir()}
    assert (tmp_path / "access").stat().st_mode & 0o777 == 0o700
    assert set(modes.values()) == {0}
