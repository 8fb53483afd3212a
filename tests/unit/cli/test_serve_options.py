from __future__ import annotations

from pathlib import Path

import pytest

from farandole.cli import serve_options
from farandole.errors import UnavailableError, UserError


def test_access_options_have_absolute_paths_and_complete_tokens(farandole_home: Path) -> None:
    tokens = serve_options.tokens("https://issuer", "service", "keys.json", None, "roles")
    options = serve_options.access(None, "required", tokens)
    assert options["directory"] == str(farandole_home / "access")
    assert (options["audit"], options["audit_required"]) == (True, True)
    assert options["tokens"] == {
        "issuer": "https://issuer",
        "audience": "service",
        "keys": "keys.json",
        "authority": None,
        "roles_claim": "roles",
        "rate": None,
        "daily_rows": None,
    }
    assert "tokens" not in serve_options.access(Path("a"), "off", None)


def test_limits_of_subjects_are_written_as_those_of_keys(tmp_path: Path) -> None:
    options = serve_options.tokens(
        "https://issuer", "service", "keys.json", tmp_path / "ca.pem", "roles", rate="600 / min", daily_rows=1000
    )
    assert options is not None
    assert (options["rate"], options["daily_rows"]) == ("600/min", 1000)
    assert options["authority"] == str(tmp_path / "ca.pem")
    with pytest.raises(UserError, match="--oidc-rate: 'often' is not a rate; write a number of requests and a period"):
        serve_options.tokens("https://issuer", "service", "keys.json", None, "roles", rate="often")


def test_limits_of_subjects_without_a_provider_are_refused() -> None:
    assert serve_options.tokens(None, None, None, None, "roles") is None
    with pytest.raises(UserError, match="--oidc-issuer: is missing; tokens need"):
        serve_options.tokens(None, None, None, None, "roles", rate="10/s")
    with pytest.raises(UserError, match="--oidc-issuer: is missing; tokens need"):
        serve_options.tokens(None, None, None, None, "roles", daily_rows=5)


def test_options_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--oidc-keys"):
        serve_options.tokens("https://issuer", "service", None, None, "roles")
    with pytest.raises(UserError, match="--audit"):
        serve_options.access(None, "maybe", None)
    with pytest.raises(UserError, match="--tls-key"):
        serve_options.tls(tmp_path / "certificate.pem", None, None)
    with pytest.raises(UserError, match="--nan"):
        serve_options.not_a_number("ignore")
    assert serve_options.tls(None, None, None) == {}
    assert serve_options.not_a_number("missing") == "missing"


def test_missing_library_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    serve_options.require_libraries()
    monkeypatch.setattr(serve_options, "_LIBRARIES", ("json", "no_such_library"))
    with pytest.raises(UnavailableError, match=r"no_such_library.*farandole\[serve\]"):
        serve_options.require_libraries()


@pytest.mark.parametrize("port", [-1, 65_536])
def test_number_that_is_not_a_port_is_refused(port: int) -> None:
    with pytest.raises(UserError, match=f"--port {port}: is not a port; choose one from 1 to 65535"):
        serve_options.port_number(port)
    assert serve_options.port_number(0) == 0
