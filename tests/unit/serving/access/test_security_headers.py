from __future__ import annotations

import pytest

from farandole.serving.access import SECURITY_HEADERS, security_headers


def test_answers_by_tls_ask_browsers_to_use_nothing_else() -> None:
    assert security_headers(tls=True) == {**SECURITY_HEADERS, "strict-transport-security": "max-age=31536000"}
    assert security_headers(tls=True, hsts_s=300)["strict-transport-security"] == "max-age=300"


@pytest.mark.parametrize(("tls", "hsts_s"), [(False, 300), (True, 0), (False, 0)])
def test_header_is_left_out_over_plain_http_and_where_it_is_not_wanted(tls: bool, hsts_s: int) -> None:
    assert security_headers(tls=tls, hsts_s=hsts_s) == SECURITY_HEADERS


def test_names_are_in_lower_case_as_asgi_demands() -> None:
    assert [name for name in security_headers(tls=True) if name != name.lower()] == []
