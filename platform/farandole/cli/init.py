"""`init`: a first job file, guessed from data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farandole.cli import completion
from farandole.cli.help import PlainCommand
from farandole.errors import closest_match

if TYPE_CHECKING:
    from farandole.guessing.guess import Guess, RawData

_SHOWN = 8
"""Columns that are listed by name."""


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(cls=PlainCommand, rich_help_panel="Run a job")(init)


def init(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="A CSV, Parquet or JSON file, a folder of such files or of images.", show_default=False
        ),
    ],
    label: Annotated[
        str | None, typer.Option("--label", metavar="COLUMN", help="What to predict. Default: asked, or guessed.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="The folder for job.yaml. Default: named like the data."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="binary, multiclass or regression. Default: guessed.",
            autocompletion=completion.kinds_of_labels,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The job's name.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a job file that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Look at data and write a job file that trains a first model on them."""
    from farandole.guessing.guess import check_options, guess
    from farandole.guessing.job_text import default_directory, write_job_file

    check_options(kind, name)
    raw = look_at(data)
    if label is None and raw.sample is not None and sys.stdin.isatty() and not as_json:
        label = ask_label(raw)
    found = guess(raw, label=label, kind=kind, name=name)
    path = write_job_file(found, output or default_directory(found), force=force)
    if as_json:
        from farandole.cli.render import print_json

        print_json({"job_file": str(path)} | found.to_dict())
    else:
        _show(found, path)


def look_at(data: str) -> RawData:
    """Find out what files hold, and show the progress of downloads."""
    from farandole.cli.progress import event_display
    from farandole.guessing.guess import look

    with event_display() as on_event:
        return look(data, on_event)


def ask_label(raw: RawData) -> str:
    """Ask which column is the label, until there is one of that name; the most likely one is the default."""
    from farandole.cli.console import make_console, print_text, print_values
    from farandole.guessing.labels import find_label

    assert raw.sample is not None, "images have one label"
    likely, others = find_label(raw.sample.columns)
    known = raw.sample.names
    console = make_console(stderr=True)
    perhaps = [("perhaps", _names((likely, *others)))] if others else []
    print_values(console, [("columns", f"{len(known)}: {_names(known)}"), *perhaps])
    while True:
        answer = str(typer.prompt("label (what to predict)", default=likely, err=True)).strip()
        if answer in known:
            return answer
        close = closest_match(answer, list(known))
        hint = f"did you mean {close}?" if close else f"press Enter for {likely}"
        print_text(console, f"{answer}: there is no such column; {hint}", indent=2)


def _show(found: Guess, path: Path) -> None:
    from rich.text import Text

    from farandole.cli.console import make_console, print_values
    from farandole.cli.render import command

    rows: list[tuple[str, Any]] = list(_rows(found))
    rows += [("warning", Text(warning, style="yellow")) for warning in found.warnings]
    rows.append(("next", Text(f"{command()} run {_relative(path)}", style="green")))
    print_values(make_console(), rows, title=f"{found.name}: {_relative(path)}")


def _rows(found: Guess) -> list[tuple[str, str]]:
    kinds: dict[str, list[str]] = {}
    for feature in found.features:
        kinds.setdefault(feature.spec["kind"], []).append(feature.name)
    source = found.source
    details = [f"{key} {_text(value)}" for key, value in source.items() if key not in ("format", "malformed")]
    rows = [
        ("data", f"{found.rows:,} rows of {source['format']}" + (f" ({', '.join(details)})" if details else "")),
        ("label", f"{found.label.column}: {found.label.kind} ({found.label.reason})"),
    ]
    if found.label.alternatives:
        rows.append(("or --label", _names(found.label.alternatives)))
    rows += [(kind, f"{len(names)}: {_names(names)}") for kind, names in kinds.items()]
    rows += [("left out", f"{entry.column}: {entry.reason}") for entry in found.left_out[:_SHOWN]]
    if len(found.left_out) > _SHOWN:
        rows.append(("", f"and {len(found.left_out) - _SHOWN} more"))
    return [*rows, ("split", found.split.reason)]


def _names(names: Any) -> str:
    shown = ", ".join(list(names)[:_SHOWN])
    return shown + (", …" if len(names) > _SHOWN else "")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "tab" if value == "\t" else str(value)


def _relative(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
