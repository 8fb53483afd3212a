from __future__ import annotations

from pathlib import Path

import pytest

from farandole.cli import serve_options
from farandole.errors import UnavailableError, UserError


def test_access_options_have_absolute_paths_and_complete_tokens(farandole_home: Path) -> None:
    options = serve_options.access(None, "required", "https://issuer", "service", "keys.json", "roles")
    assert options["directory"] == str(farandole_home / "access")
    assert (options["audit"], options["audit_required"]) == (True, True)
    assert options["tokens"] == {
        "issuer": "https://issuer",
        "audience": "service",
        "keys": "keys.json",
        "roles_claim": "roles",
    }
    assert "tokens" not in serve_options.access(Path("a"), "off", None, None, None, "roles")


def test_options_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--oidc-keys"):
        serve_options.access(None, "on", "https://issuer", "service", None, "roles")
    with pytest.raises(UserError, match="--audit"):
        serve_options.access(None, "maybe", None, None, None, "roles")
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
