"""Completion in an interactive bash on a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_TIMEOUT_S = 120.0
_PROMPT = "READY>"
_BACK = "\x02"
"""Moves the cursor to the left."""


class Bash:
    """An interactive bash on a terminal, in which the completion of `farandole` is set up.

    Args:
        folder: Its working directory.
    """

    def __init__(self, folder: Path) -> None:
        self._terminal, inner = pty.openpty()
        programs = Path(sys.executable).parent
        variables = {"PATH": f"{programs}:{os.environ['PATH']}", "TERM": "dumb", "PS1": _PROMPT, "COLUMNS": "200"}
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            cwd=folder,
            env={**os.environ, **variables, "HOME": str(folder), "INPUTRC": "/dev/null"},
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)
        self._send("bind 'set enable-bracketed-paste off'; stty cols 200\n")
        self._send("show_line() { printf '<%s>END\\n' \"$READLINE_LINE\"; }; bind -x '\"\\C-g\": show_line'\n")
        self._send('source <(farandole --show-completion bash); echo "SET"UP\n')
        self._read_until(r"SETUP")

    def complete(self, line: str) -> str:
        """Type a line and press the tabulator key; return the line afterwards."""
        self._send(f"{line}\t\x07")
        completed = self._read_until(r"<(.*?)>END").group(1)
        self._send("\x05\x15")  # to the end, and delete the whole line
        return completed.replace("\r", "").replace("\n", "")

    def choices(self, line: str) -> list[str]:
        """Type a line and press the tabulator key twice; return the words that bash lists."""
        self._send(f"{line}\t\t\x07")
        listed = self._read_until(r"<(.*?)>END").string
        self._send("\x05\x15")
        lines = listed.split(line, 1)[1].splitlines()[1:]
        return [word for each in lines if _PROMPT not in each and ">END" not in each for word in each.split()]

    def close(self) -> None:
        """End the shell."""
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def _send(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _read_until(self, pattern: str) -> re.Match[str]:
        text, deadline = "", time.monotonic() + _TIMEOUT_S
        while time.monotonic() < deadline:
            if select.select([self._terminal], [], [], 0.5)[0]:
                text += os.read(self._terminal, 4096).decode(errors="replace")
                if found := re.search(pattern, text, re.DOTALL):
                    return found
        raise AssertionError(f"bash did not show {pattern} within {_TIMEOUT_S:g} s: {text[-2000:]}")


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bash]:
    folder = tmp_path_factory.mktemp("completion")
    for name in ("houses/job.yaml", "my jobs/first.yaml", "other.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    shell = Bash(folder)
    yield shell
    shell.close()


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("farandole run hou", "farandole run houses/"),
        ("farandole run houses/", "farandole run houses/job.yaml "),
        ("farandole run my", r"farandole run my\ jobs/"),
        (r"farandole run my\ jobs/f", r"farandole run my\ jobs/first.yaml "),
        ('farandole run "my jobs/f', 'farandole run "my jobs/first.yaml" '),
        ("farandole plan x --set train.epo", "farandole plan x --set train.epochs="),
        ("farandole plan x --set backend.use=lo", "farandole plan x --set backend.use=local "),
        ('farandole plan x --set "backend.use=lo', 'farandole plan x --set "backend.use=local" '),
        ("farandole plan x --set=backend.use=lo", "farandole plan x --set=backend.use=local "),
        ("farandole plan x --set backend.use=", "farandole plan x --set backend.use="),
        ("farandole run --set a=3 --set backend.use=h", "farandole run --set a=3 --set backend.use=hosts "),
        ("farandole ui hou", "farandole ui houses/"),
        ("farandole jobs --state que", "farandole jobs --state queued "),
        ("farandole jobs --state=que", "farandole jobs --state=queued "),
        ("farandole jobs --backend kub", "farandole jobs --backend kubernetes "),
        ("farandole init oth", "farandole init other.txt "),
        ("farandole init other.txt --kind reg", "farandole init other.txt --kind regression "),
        ("farandole doctor --hosts hou", "farandole doctor --hosts houses/"),
        (f"farandole run hou --json{7 * _BACK}", "farandole run houses/ --json"),
        ("true && farandole prep", "true && farandole prepare "),
    ],
)
def test_line_is_completed(bash: Bash, typed: str, completed: str) -> None:
    assert bash.complete(typed) == completed


def test_several_completions_are_listed(bash: Bash) -> None:
    assert bash.choices("farandole plan x --set backend.use=") == ["hosts", "kubernetes", "local"]
    assert bash.choices("farandole jobs --state ") == ["cancelled", "failed", "queued", "running", "succeeded"]
