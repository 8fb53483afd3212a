"""The command as a whole: its help, its errors and exit codes, and what it imports."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from farandole.cli import main as cli
from farandole.errors import FarandoleError, JobFailedError, SpecError, UnavailableError
from farandole.process.signals import Terminated


def test_help_lists_every_command() -> None:
    done = CliRunner().invoke(cli.app, ["--help"])
    assert done.exit_code == 0
    for command in ("run", "prepare", "train", "plan", "ui", "schema", "doctor"):
        assert f" {command} " in done.output


def test_version_option_prints_the_version_of_the_package() -> None:
    done = CliRunner().invoke(cli.app, ["--version"])
    assert (done.exit_code, done.output) == (0, f"farandole {version('farandole')}\n")


def test_unknown_command_exits_with_2() -> None:
    assert CliRunner().invoke(cli.app, ["trian"]).exit_code == 2


@pytest.mark.parametrize(
    ("raised", "code", "text"),
    [
        (SpecError("one\ntwo"), 2, "farandole: one\nfarandole: two\n"),
        (JobFailedError("broke"), 1, "farandole: broke\n"),
        (UnavailableError("no Java"), 3, "farandole: no Java\n"),
        (
            FarandoleError("broke", detail="evidence"),
            1,
            "farandole: broke\nfarandole: `farandole --debug …` shows more\n",
        ),
        (KeyboardInterrupt(), 130, "farandole: interrupted; everything that was started has ended\n"),
        (SystemExit(130), 130, "farandole: interrupted; everything that was started has ended\n"),
        (SystemExit(2), 2, ""),
        (Terminated(), 143, "farandole: terminated; everything that was started has ended\n"),
    ],
)
def test_error_becomes_text_and_an_exit_code(
    raised: BaseException,
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def app() -> None:
        raise raised

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(cli, "raise_on_sigterm", lambda: None)
    monkeypatch.delenv("FARANDOLE_DEBUG", raising=False)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", text)


@pytest.mark.parametrize("module", ["farandole", "farandole.cli.main", "farandole.planning", "farandole.spec"])
def test_command_line_starts_without_the_heavy_libraries(module: str) -> None:
    heavy = "{'torch', 'pyspark', 'mlflow', 'horovod', 'pandas', 'matplotlib'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
