from __future__ import annotations

import pytest

from farandole.serving.access.callers import SCOPES, AccessDenied, Caller, Scope, not_valid, unavailable


@pytest.mark.parametrize("scope", SCOPES)
def test_no_scope_includes_another(scope: Scope) -> None:
    caller = Caller("key:a", "web", frozenset({scope}))
    caller.require(scope)
    for other in set(SCOPES) - {scope}:
        with pytest.raises(AccessDenied, match=f"lacks the scope {other}") as caught:
            caller.require(other)
        assert (caught.value.status, caught.value.code, caught.value.caller) == (403, "scope_missing", caller)


def test_headers_say_how_to_authenticate_and_when_to_return() -> None:
    assert not_valid().headers == {"WWW-Authenticate": 'Bearer realm="farandole"'}
    assert unavailable("keys_unavailable").headers == {"Retry-After": "5"}
    assert AccessDenied(403, "scope_missing", "no").headers == {}
