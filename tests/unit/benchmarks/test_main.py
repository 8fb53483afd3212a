"""Command line of the benchmarks."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app, main
from benchmarks.loader.bench import OWN_SYSTEMS, PEERS
from benchmarks.loader.cases import CASES
from tests.support.paths import ROOT

COMMANDS = [
    *("loader", "ingest", "train", "checkpoint", "recover", "start", "end_to_end"),
    *("serve", "predict", "tables", "queue"),
]


def test_every_benchmark_is_a_command() -> None:
    commands = [command for command in app.registered_commands if command.callback]
    assert [command.name or command.callback.__name__ for command in commands if command.callback] == COMMANDS


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_80_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = CliRunner().invoke(app, [*name.split(), "--help"], catch_exceptions=False)
    assert done.exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert not set("│╭{") & set(done.stdout), "neither boxes nor references to tables of names"
    assert not re.search(r"<\w", done.stdout), "no types"


def test_help_lists_the_names_that_are_known() -> None:
    text = " ".join(CliRunner().invoke(app, ["loader", "--help"]).stdout.split())
    assert f"--case NAME One of {', '.join(CASES)}. Repeatable. Default: all." in text
    assert f"One of {', '.join((*OWN_SYSTEMS, *PEERS))}. Repeatable. Default: all installed ones." in text


def test_two_formats_at_once_are_rejected(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "loader", "--json", "--markdown"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("benchmarks: --json, --markdown: the document can only have one format")


def test_platform_remains_the_module_of_the_standard_library() -> None:
    command = [sys.executable, "-c", "import benchmarks, platform; print(platform.python_version())"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ".".join(map(str, sys.version_info[:3]))
