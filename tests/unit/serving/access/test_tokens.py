from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from joserfc.jwk import Key

from farandole.errors import UserError
from farandole.serving.access import limits as limits_module
from farandole.serving.access import tokens as tokens_module
from farandole.serving.access.allowances import Rate
from farandole.serving.access.callers import AccessDenied, Caller
from farandole.serving.access.limits import Limits
from farandole.serving.access.tokens import TokenRules, TokenVerifier
from tests.support.identity_provider import AUDIENCE, ISSUER, key_set, make_claims, make_signing_key, make_token


@pytest.fixture(scope="module")
def key() -> Key:
    return make_signing_key()


@pytest.fixture
def verify(tmp_path: Path, key: Key) -> Callable[..., Caller]:
    """Return a function that verifies a token under rules."""

    def verify(token: str, **options: Any) -> Caller:
        file = tmp_path / "keys.json"
        file.write_text(key_set(*options.pop("keys", [key])))
        verifier = TokenVerifier(TokenRules(ISSUER, AUDIENCE, str(file), **options), tmp_path)
        return asyncio.run(verifier.verify(token))

    return verify


def _refused(verify: Callable[..., Caller], token: str, **options: Any) -> AccessDenied:
    with pytest.raises(AccessDenied) as caught:
        verify(token, **options)
    assert caught.value.status == 401
    return caught.value


def test_token_identifies_its_subject(verify: Callable[..., Caller], key: Key) -> None:
    rate = Rate(5, "s")
    caller = verify(make_token(key, roles=["explain", "predict", "cook"]), rate=rate, daily_rows=100)
    assert caller == Caller("token:ada", "ada", frozenset({"predict", "explain"}), rate, 100)


def test_tokens_of_a_subject_share_its_limits_and_subjects_do_not(
    tmp_path: Path, verify: Callable[..., Caller], key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon_s = 43_200.0 + 86_400 * 20_000
    monkeypatch.setattr(limits_module, "time", SimpleNamespace(monotonic=lambda: noon_s, time=lambda: noon_s))
    limits = Limits(tmp_path)
    options: dict[str, Any] = {"rate": Rate(2, "h"), "daily_rows": 10}
    first, renewed, other = (
        verify(make_token(key, sub=subject, exp=int(time.time()) + lasts), **options)
        for subject, lasts in (("ada", 600), ("ada", 900), ("bob", 600))
    )
    limits.take_request(first)
    limits.take_request(renewed)
    limits.take_rows(first, 7)
    with pytest.raises(AccessDenied, match="The limit is 2/h requests"):
        limits.take_request(first)
    with pytest.raises(AccessDenied, match="3 of 10 rows are left"):
        limits.take_rows(renewed, 4)
    limits.take_request(other)
    limits.take_rows(other, 10)
    limits.close()


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES384", "Ed25519"])
def test_common_signatures_are_accepted(verify: Callable[..., Caller], algorithm: str) -> None:
    key = make_signing_key("a", algorithm)
    assert verify(make_token(key, algorithm), keys=[key]).name == "ada"


def test_roles_come_from_the_configured_claim(verify: Callable[..., Caller], key: Key) -> None:
    nested = make_token(key, roles=None, realm_access={"roles": ["analyst"]})
    options: dict[str, Any] = {"roles_claim": "realm_access.roles", "scopes_by_role": {"analyst": "explain"}}
    assert verify(nested, **options).scopes == {"explain"}
    claims: dict[str, Any] = {"https://example.org/roles": "predict admin"}
    dotted = make_token(key, **claims)
    assert verify(dotted, roles_claim="https://example.org/roles").scopes == {"predict", "admin"}


@pytest.mark.parametrize("roles", [None, [], {}, 7, ["Predict"], [["predict"]], "cook"])
def test_token_without_a_known_role_has_no_scope(verify: Callable[..., Caller], key: Key, roles: Any) -> None:
    assert verify(make_token(key, roles=roles)).scopes == frozenset()


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example.org"},
        {"iss": None},
        {"iss": [ISSUER]},
        {"aud": "other"},
        {"aud": ["other"]},
        {"aud": None},
        {"exp": None},
        {"exp": "2030"},
        {"exp": True},
        {"exp": 1e30},
        {"nbf": "now"},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 300},
        {"sub": "a\nb"},
    ],
)
def test_token_with_a_wrong_claim_is_refused(verify: Callable[..., Caller], key: Key, changes: dict[str, Any]) -> None:
    denied = _refused(verify, make_token(key, **changes))
    assert (denied.code, denied.public_message) == ("unauthenticated", "The key or token is not valid.")


def test_audience_may_be_one_of_several(verify: Callable[..., Caller], key: Key) -> None:
    assert verify(make_token(key, aud=["other", AUDIENCE])).name == "ada"


def test_token_of_another_key_with_the_same_id_is_refused(verify: Callable[..., Caller]) -> None:
    assert _refused(verify, make_token(make_signing_key("first"))).code == "unauthenticated"


def test_changed_claims_are_refused(verify: Callable[..., Caller], key: Key) -> None:
    header, _, signature = make_token(key).split(".")
    assert _refused(verify, f"{header}.{_encode(make_claims(roles=['admin']))}.{signature}").code == "unauthenticated"


def test_unsigned_token_is_refused(verify: Callable[..., Caller]) -> None:
    for name in ("none", "None", "NONE"):
        assert _refused(verify, f"{_encode({'alg': name})}.{_encode(make_claims())}.").code == "unauthenticated"


def test_public_key_cannot_be_used_as_a_shared_secret(verify: Callable[..., Caller]) -> None:
    """The known attack on verifiers that let the token choose: HMAC with the public key's text."""
    key: Any = make_signing_key("first", "RS256")
    secret = key.as_pem(private=False)
    signed = f"{_encode({'alg': 'HS256', 'kid': 'first'})}.{_encode(make_claims())}"
    signature = base64.urlsafe_b64encode(hmac.digest(secret, signed.encode(), hashlib.sha256)).decode().rstrip("=")
    assert _refused(verify, f"{signed}.{signature}", keys=[key]).code == "unauthenticated"


def test_key_in_the_header_of_a_token_is_ignored(verify: Callable[..., Caller]) -> None:
    own = make_signing_key("first")
    header = {"jwk": own.as_dict(private=False)}
    assert _refused(verify, make_token(own, header=header)).code == "unauthenticated"


def test_algorithm_that_is_not_configured_is_refused(verify: Callable[..., Caller], key: Key) -> None:
    assert _refused(verify, make_token(key), algorithms=("RS256",)).code == "unauthenticated"


def test_algorithm_of_another_kind_of_key_is_refused(verify: Callable[..., Caller], key: Key) -> None:
    _, claims, signature = make_token(key).split(".")
    other = _encode({"alg": "RS256", "kid": "first"})
    assert _refused(verify, f"{other}.{claims}.{signature}").code == "unauthenticated"


def test_token_without_key_id_uses_the_only_key_that_fits(verify: Callable[..., Caller], key: Key) -> None:
    other = make_signing_key("other", "RS256")
    token = make_token(key, header={"kid": None})
    assert verify(token, keys=[key, other]).name == "ada"
    _refused(verify, token, keys=[key, make_signing_key("second")])


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b.c", "x" * 20000, "é.é.é", "bnVsbA.bnVsbA.bnVsbA", "W10.W10.W10", "[" * 5000 + ".a.b"]
)
def test_text_that_is_not_a_token_is_refused(verify: Callable[..., Caller], token: str) -> None:
    assert _refused(verify, token).code == "unauthenticated"


def test_deeply_nested_header_is_refused(verify: Callable[..., Caller]) -> None:
    header = base64.urlsafe_b64encode(b"[" * 9000).decode()
    assert _refused(verify, f"{header}.e30.e30").code == "unauthenticated"


def test_expired_token_is_refused_after_the_leeway(
    verify: Callable[..., Caller], key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = make_token(key, exp=1_800_000_000, nbf=None, iat=None)
    now = [1_800_000_059.0]
    monkeypatch.setattr(tokens_module, "time", SimpleNamespace(time=lambda: now[0], monotonic=time.monotonic))
    assert verify(token).name == "ada"
    now[0] += 1
    denied = _refused(verify, token)
    assert (denied.code, denied.caller.name) == ("token_expired", "ada")
    assert denied.public_message == (
        "The token expired at 2027-01-15T08:00:00+00:00; the service's clock shows 2027-01-15T08:01:00+00:00."
    )


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_clock_that_is_behind_is_named(verify: Callable[..., Caller], key: Key, claim: str) -> None:
    soon = int(time.time()) + 300
    near: dict[str, Any] = {claim: soon - 270}
    far: dict[str, Any] = {claim: soon}
    assert verify(make_token(key, **near)).name == "ada"
    denied = _refused(verify, make_token(key, **far))
    assert denied.code == "token_not_yet_valid"
    assert denied.public_message.endswith("One of the two clocks is wrong.")


def test_remembered_token_still_expires(tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys.json").write_text(key_set(key))
    verifier = TokenVerifier(TokenRules(ISSUER, AUDIENCE, str(tmp_path / "keys.json"), leeway_s=0), tmp_path)
    token = make_token(key, exp=int(time.time()) + 100)
    assert asyncio.run(verifier.verify(token)).name == "ada"
    later_s = time.time() + 101
    monkeypatch.setattr(tokens_module, "time", SimpleNamespace(time=lambda: later_s, monotonic=time.monotonic))
    with pytest.raises(AccessDenied, match="The token expired at"):
        asyncio.run(verifier.verify(token))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"issuer": ""}, r"tokens\.issuer: is empty"),
        ({"algorithms": ("HS256",)}, "HS256: a token must be signed with a private key; choose among RS256"),
        ({"algorithms": ("none",)}, "must be signed with a private key"),
        ({"algorithms": ()}, "must be signed with a private key"),
        ({"scopes_by_role": {"cook": "bake"}}, "cook: bake: there is no such scope; use predict, explain, admin"),
        ({"leeway_s": 3600}, r"tokens\.leeway_s: 3600: allow 0 to 600 s"),
    ],
)
def test_unsafe_rules_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TokenRules(**{"issuer": ISSUER, "audience": AUDIENCE, "keys": "keys.json", **options})


def _encode(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
