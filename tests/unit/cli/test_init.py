"""`farandole init` as a command: its output fits a terminal, asks only there, and is one document for scripts."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from farandole.cli import init as command
from farandole.cli import main as cli
from farandole.errors import SpecError
from farandole.spec import load_job
from tests.support.odd_tables import write_table


def _row(source: random.Random, number: int) -> str:
    label = source.randint(0, 1)
    return f"{number + 1},{source.random():.3f},{source.choice(['', 'a', 'b'])},{label * 5},{'NY'[label]}"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return write_table(tmp_path / "trips.csv", "rownames,fare,zone,paid,tip", _row, 400)


def _run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, ["init", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return str(done.stdout)


def test_guesses_are_shown_within_80_columns(table: Path) -> None:
    lines = _run("trips.csv", "--label", "tip").splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert lines[0] == "trips: trips/job.yaml"
    assert "400 rows of csv" in text
    assert "tip: binary (two values: N and Y)" in text
    assert "rownames: numbers the rows" in text
    assert "paid alone predicts tip (accuracy 1.000)" in text
    assert text.rstrip().endswith("trips/job.yaml")
    assert list(load_job(Path("trips/job.yaml")).data.features) == ["fare", "zone", "paid"]


def test_label_is_guessed_where_nobody_can_be_asked(table: Path) -> None:
    text = _run("trips.csv", "--output", "out")
    assert "tip: binary" in text
    (others,) = (line for line in text.splitlines() if "or --label" in line)
    assert {word.strip(",") for word in others.split()[2:]} == {"paid", "zone", "fare"}
    assert Path("out/job.yaml").exists()


def test_label_is_asked_for_on_a_terminal(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    raw = command.look_at(str(table))
    monkeypatch.setattr("typer.prompt", lambda text, default, err: "fare" if default == "tip" else "")
    assert command.ask_label(raw) == "fare"


@pytest.mark.parametrize("width", [80, 50])
def test_question_fits_the_terminal_and_is_asked_again_after_a_typo(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"column_number_{number}" for number in range(40)] + ["price"]
    path = write_table(
        tmp_path / "wide.csv", ",".join(names), lambda source, number: ",".join(f"{source.random():.3f}" for _ in names)
    )
    raw = command.look_at(str(path))
    answers = ["pryce", "quite another", " price "]
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("typer.prompt", lambda text, default, err: answers.pop(0))
    capsys.readouterr()
    assert command.ask_label(raw) == "price"
    shown = capsys.readouterr().err
    assert max(map(len, shown.splitlines())) <= width
    text = " ".join(shown.split())
    assert text.startswith("columns 41: column_number_0, column_number_1, ")
    assert "column_number_7, … perhaps" in text
    assert "pryce: there is no such column; did you mean price?" in text
    assert "quite another: there is no such column; press Enter for price" in text


def test_document_holds_the_guesses(table: Path) -> None:
    document = json.loads(_run("trips.csv", "--label", "tip", "--json"))
    assert document["job_file"] == str(table.parent / "trips" / "job.yaml")
    assert document["label"]["kind"] == "binary"
    assert document["features"]["zone"]["kind"] == "categorical"
    assert document["left_out"] == {"rownames": "numbers the rows"}
    assert document["leaks"] == [{"column": "paid", "accuracy": 1.0}]


def test_what_is_left_out_is_a_warning(table: Path) -> None:
    table.write_text(table.read_text() + "401,0.5,a,,\n402,0.5,a,,rare\n")
    lines = _run("trips.csv", "--label", "tip").splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "warning 1 row without a value of tip, to be left out" in text
    assert "warning a class of tip with too few rows to learn, to be left out: rare (1 row)" in text
    document = json.loads(_run("trips.csv", "--label", "tip", "--json", "--force"))
    assert document["dropped"] == {"rows_without_label": 1, "classes": {"rare": 1}}
    assert "1 row without a value of tip, to be left out" in document["warnings"]


def test_kind_and_name_win_over_guesses(table: Path) -> None:
    _run("trips.csv", "--label", "paid", "--kind", "regression", "--name", "mine")
    job = load_job(Path("mine/job.yaml"))
    assert job.name == "mine"
    assert job.data.label is not None
    assert job.data.label.kind == "regression"
    with pytest.raises(SpecError, match=r"--kind ordinal: is not known; use binary, multiclass, regression"):
        _run("trips.csv", "--kind", "ordinal")
    with pytest.raises(SpecError, match=r"--name My Job: "):
        _run("trips.csv", "--label", "tip", "--name", "My Job")


def test_existing_job_file_is_kept(table: Path) -> None:
    _run("trips.csv", "--label", "tip")
    with pytest.raises(SpecError, match=r"exists already; add --force to replace it"):
        _run("trips.csv", "--label", "tip")
    assert "fare" in _run("trips.csv", "--label", "fare", "--force")


def test_help_names_every_option(table: Path) -> None:
    text = _run("--help")
    for option in ("DATA", "--label", "--output", "--kind", "--name", "--force", "--json"):
        assert option in text
    assert max(map(len, text.splitlines())) <= 80
