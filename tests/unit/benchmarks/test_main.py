"""Command line of the benchmarks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.__main__ import app, main
from tests.support.paths import ROOT

COMMANDS = ["loader", "ingest", "train", "checkpoint", "recover", "start", "end_to_end", "tables", "queue"]


def test_every_benchmark_is_a_command() -> None:
    commands = [command for command in app.registered_commands if command.callback]
    assert [command.name or command.callback.__name__ for command in commands if command.callback] == COMMANDS


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
