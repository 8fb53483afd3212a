"""`farandole keys …`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from farandole.cli.main import app
from farandole.errors import UserError
from tests.support.access import authorize, open_access


def _run(*arguments: str) -> Result:
    result: Any = CliRunner().invoke(app, ["keys", *arguments], catch_exceptions=False, env={"COLUMNS": "200"})
    return result


def _json(*arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_run(*arguments, "--json").stdout)
    return document


def test_created_key_is_shown_once_and_works(farandole_home: Path) -> None:
    done = _run("create", "--name", "web", "--scope", "predict", "--scope", "explain", "--rate", "10/s")
    key = done.stdout.strip()
    assert key.startswith("fdl_")
    assert "web) permits predict, explain until 20" in done.stderr
    assert "keep it now, it is not shown again" in done.stderr
    with open_access(farandole_home / "access") as access:
        assert authorize(access, key, "explain").name == "web"
    for shown in (_run("list").output, json.dumps(_json("list"))):
        assert key[-64:] not in shown
        assert "hash" not in shown


def test_list_shows_limits_and_states(farandole_home: Path) -> None:
    options = ("--scope", "predict", "--expires", "never", "--rate", "600 / min", "--daily-rows", "100000")
    made = _json("create", "--name", "web", *options)
    assert _json("list")["keys"] == [{name: value for name, value in made.items() if name != "key"}]
    line = _run("list").stdout.splitlines()[-1].split()
    assert line == [made["id"], "web", "valid", "predict", "never", "600/min", "100,000"]


def test_revoked_key_is_listed_and_refused(farandole_home: Path) -> None:
    key = _run("create", "--name", "web", "--scope", "predict").stdout.strip()
    with open_access(farandole_home / "access") as access:
        authorize(access, key)
        assert _run("revoke", "web").stdout.startswith(f"key {key.split('_')[1]} (web) is revoked since 20")
        with pytest.raises(Exception, match="The key was revoked"):
            authorize(access, key)
    assert _json("list")["keys"][0]["state"] == "revoked"
    assert _json("revoke", key.split("_")[1])["state"] == "revoked"


def test_empty_list_names_the_command_that_makes_a_key(tmp_path: Path) -> None:
    assert _run("list", "--directory", str(tmp_path / "none")).stdout.startswith("there are no keys; `farandole keys")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scope", "predit"], "--scope: predit: there is no such scope; did you mean predict"),
        (["--scope", "x"], "--scope: x: there is no such scope; the scopes are predict, explain, admin"),
        (["--scope", "predict", "--rate", "fast"], "--rate: 'fast' is not a rate"),
        (["--scope", "predict", "--expires", "soon"], "--expires: 'soon' is neither a duration nor a date"),
        (["--scope", "predict", "--expires", "2020-01-01"], "is not in the future"),
    ],
)
def test_wrong_option_is_an_error_and_makes_no_key(farandole_home: Path, options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _run("create", "--name", "web", *options)
    assert not (farandole_home / "access" / "keys.json").exists()


def test_audit_log_is_verified(farandole_home: Path) -> None:
    _run("create", "--name", "web", "--scope", "predict")
    open_access(farandole_home / "access").close()
    done = _run("audit", "verify")
    assert (done.exit_code, done.stdout[:26]) == (0, "all 2 lines are intact; he")
    head = _json("audit", "verify")["head"]
    assert _json("audit", "verify", "--head", head)["is_intact"]
    log = farandole_home / "access" / "audit.jsonl"
    log.write_bytes(log.read_bytes().replace(b"opened", b"closed", 1))
    done = _run("audit", "verify")
    assert done.exit_code == 2
    assert f"{log}:1: the line, or the one before it, was changed" in done.stderr
    assert _json("audit", "verify")["line"] == 1


def test_running_and_killed_workers_are_named(farandole_home: Path) -> None:
    _run("create", "--name", "web", "--scope", "predict")
    access = open_access(farandole_home / "access")
    assert "is running, or was killed" in _run("audit", "verify").stdout
    (farandole_home / "access" / "audit.head").unlink()
    open_access(farandole_home / "access").close()
    assert "the log was repaired after a worker died, at the lines 2" in _run("audit", "verify").stdout
    access.close()
