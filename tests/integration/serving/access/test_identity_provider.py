"""Bearer tokens against a JWK set that a real server publishes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from farandole.errors import UnavailableError
from farandole.serving.access import Access, AccessDenied, TokenRules, token_keys
from tests.support.access import authorize, bearer, make_key, open_access
from tests.support.certificates import make_identity
from tests.support.identity_provider import (
    AUDIENCE,
    ISSUER,
    KeySetServer,
    key_set,
    make_signing_key,
    make_token,
)

FIRST, SECOND = make_signing_key("first"), make_signing_key("second")


@pytest.fixture
def provider() -> Iterator[KeySetServer]:
    with KeySetServer(key_set(FIRST)).running() as server:
        yield server


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(token_keys._MIN_PAUSE_S, "url", 0.0)


def _open(directory: Path, url: str) -> Access:
    return open_access(directory, tokens=TokenRules(ISSUER, AUDIENCE, url))


def test_keys_and_tokens_work_side_by_side(tmp_path: Path, provider: KeySetServer) -> None:
    with _open(tmp_path, provider.url) as access:
        assert authorize(access, make_token(FIRST)).id == "token:ada"
        assert authorize(access, make_key(tmp_path)).name == "web"
        with pytest.raises(AccessDenied) as caught:
            authorize(access, make_token(FIRST), "explain")
    assert caught.value.status == 403
    assert provider.requests == 1


def test_new_key_of_the_provider_is_fetched(tmp_path: Path, provider: KeySetServer, no_pause: None) -> None:
    with _open(tmp_path, provider.url) as access:
        provider.content = key_set(FIRST, SECOND)
        assert authorize(access, make_token(SECOND)).name == "ada"
    assert provider.requests == 2


def test_withdrawn_key_ends_the_tokens_that_were_remembered(
    tmp_path: Path, provider: KeySetServer, no_pause: None
) -> None:
    with _open(tmp_path, provider.url) as access:
        token = make_token(FIRST)
        authorize(access, token)
        provider.content = key_set(SECOND)
        authorize(access, make_token(SECOND))
        with pytest.raises(AccessDenied, match="not valid"):
            authorize(access, token)


def test_keys_are_read_by_https_from_a_server_that_the_authority_vouches_for(tmp_path: Path, no_pause: None) -> None:
    authority = make_identity(tmp_path, "authority", is_authority=True)
    with KeySetServer(key_set(FIRST), make_identity(tmp_path, "server", authority)).running() as provider:
        rules = TokenRules(ISSUER, AUDIENCE, provider.url, authority=authority.certificate_path)
        with open_access(tmp_path / "access", tokens=rules) as access:
            first = make_token(FIRST)
            assert authorize(access, first).name == "ada"
            provider.content = key_set(SECOND)
            assert authorize(access, make_token(SECOND)).name == "ada"
            with pytest.raises(AccessDenied, match="not valid"):
                authorize(access, first)


@pytest.mark.parametrize("named", ["none", "other"])
def test_server_of_another_authority_is_not_trusted(tmp_path: Path, named: str) -> None:
    authority, other = (make_identity(tmp_path, name, is_authority=True) for name in ("authority", "other"))
    trusted = other.certificate_path if named == "other" else None
    with KeySetServer(key_set(FIRST), make_identity(tmp_path, "server", authority)).running() as provider:
        with pytest.raises(UnavailableError, match="name the authority that signed its certificate with --oidc-ca"):
            open_access(tmp_path / "access", tokens=TokenRules(ISSUER, AUDIENCE, provider.url, authority=trusted))
        assert provider.requests == 0


def test_invented_key_ids_do_not_flood_the_provider(tmp_path: Path, provider: KeySetServer) -> None:
    with _open(tmp_path, provider.url) as access:
        for number in range(20):
            with pytest.raises(AccessDenied):
                authorize(access, make_token(SECOND, header={"kid": f"invented {number}"}))
    assert provider.requests <= 2


def test_requests_of_one_moment_share_one_fetch(tmp_path: Path, provider: KeySetServer, no_pause: None) -> None:
    async def all_at_once(access: Access) -> list[str]:
        tokens = [make_token(SECOND, sub=f"user {number}") for number in range(10)]
        callers = [access.authorize(bearer(token), "predict") for token in tokens]
        return [caller.name for caller in await asyncio.gather(*callers)]

    with _open(tmp_path, provider.url) as access:
        provider.content = key_set(SECOND)
        assert asyncio.run(all_at_once(access)) == [f"user {number}" for number in range(10)]
    assert provider.requests == 2


def test_provider_that_is_away_leaves_known_keys_in_use(
    tmp_path: Path, provider: KeySetServer, no_pause: None, caplog: pytest.LogCaptureFixture
) -> None:
    with _open(tmp_path, provider.url) as access:
        provider.status = 503
        with pytest.raises(AccessDenied):
            authorize(access, make_token(SECOND))
        assert authorize(access, make_token(FIRST)).name == "ada"
    assert "the keys that were read before stay in use" in caplog.text


def test_old_keys_are_fetched_again_in_the_background(
    tmp_path: Path, provider: KeySetServer, no_pause: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def until_fetched(access: Access) -> None:
        while provider.requests < 2:
            await access.authorize(bearer(make_token(FIRST)), "predict")
            await asyncio.sleep(0.01)

    with _open(tmp_path, provider.url) as access:
        monkeypatch.setattr(token_keys, "_MAX_AGE_S", 0.0)
        asyncio.run(asyncio.wait_for(until_fetched(access), 60))
        assert provider.requests >= 2
        assert authorize(access, make_token(FIRST)).name == "ada"


def test_service_starts_with_the_keys_of_its_last_start(tmp_path: Path) -> None:
    server = KeySetServer(key_set(FIRST))
    with server.running():
        _open(tmp_path, server.url).close()
    with _open(tmp_path, server.url) as access:
        assert authorize(access, make_token(FIRST)).name == "ada"


def test_service_does_not_start_without_keys(tmp_path: Path) -> None:
    server = KeySetServer(key_set(FIRST))
    with server.running():
        pass
    with pytest.raises(
        UnavailableError, match=r"the token keys cannot be read \(.*refused\); tokens cannot be checked"
    ):
        _open(tmp_path, server.url)


@pytest.mark.parametrize("content", ["<html>", "{}", "x" * (2**20 + 2)])
def test_answer_that_is_not_a_key_set_is_an_error(tmp_path: Path, provider: KeySetServer, content: str) -> None:
    provider.content = content
    with pytest.raises(UnavailableError, match="the token keys cannot be read"):
        _open(tmp_path, provider.url)


def test_answer_that_is_not_http_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection = listener.accept()[0]
            connection.recv(10_000)
            connection.sendall(b"nonsense\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(UnavailableError, match=r"cannot be read \(the answer is not HTTP: BadStatusLine\)"):
            _open(tmp_path, f"http://127.0.0.1:{listener.getsockname()[1]}/keys")
        thread.join()


def test_redirect_is_not_followed(tmp_path: Path, provider: KeySetServer) -> None:
    with KeySetServer(key_set(SECOND)).running() as other:
        provider.status, provider.headers = 302, {"Location": other.url}
        with pytest.raises(UnavailableError, match="the token keys cannot be read"):
            _open(tmp_path, provider.url)
        assert other.requests == 0
