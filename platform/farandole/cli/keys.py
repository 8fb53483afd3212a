"""`farandole keys …`: the API keys of a service, and its audit log."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farandole.cli.completion import one_of
from farandole.cli.console import Column, make_console, print_table, print_text
from farandole.cli.help import GroupedCommands, PlainCommand
from farandole.errors import SpecError, closest_match
from farandole.process.json_text import json_text

if TYPE_CHECKING:
    from farandole.serving.access import AuditReport, KeyRecord, KeyStore, Scope

Directory = Annotated[
    Path | None,
    typer.Option(
        "--directory",
        metavar="DIR",
        help="The service's access directory.",
        show_default="$FARANDOLE_HOME/access",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

app = typer.Typer(
    cls=GroupedCommands,
    help="Make, list and revoke the API keys of a service; verify its audit log.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
audit = typer.Typer(cls=GroupedCommands, help="Verify the audit log.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(audit, name="audit")


@app.command(cls=PlainCommand)
def create(
    name: Annotated[str, typer.Option(metavar="NAME", help="What the key is called.", show_default=False)],
    scope: Annotated[
        list[str],
        typer.Option(
            metavar="SCOPE",
            help="What it permits: predict, explain or admin. Repeatable.",
            show_default=False,
            autocompletion=one_of("predict", "explain", "admin"),
        ),
    ],
    expires: Annotated[
        str, typer.Option(metavar="WHEN", help="A duration (12h, 30d), a date (2027-01-31) or never.")
    ] = "90d",
    rate: Annotated[
        str | None,
        typer.Option(metavar="N/PERIOD", help="Most requests, as in 10/s, 600/min or 5000/h.", show_default="no limit"),
    ] = None,
    daily_rows: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Most rows in a day (UTC).", show_default="no limit")
    ] = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key, and show it; it cannot be shown again."""
    from farandole.serving.access import parse_expiry, parse_rate

    scopes = [_scope(text) for text in scope]
    checked_rate = str(parse_rate(rate, "--rate")) if rate else None
    until = parse_expiry(expires, datetime.now(UTC), "--expires")
    key, record = _store(directory, can_create=True).create(
        name, scopes, expires=until, rate=checked_rate, daily_rows=daily_rows
    )
    if as_json:
        print(json_text({"key": key, **record.public()}, indent=2))
        return
    print(key)
    ends = f"until {record.expires}" if record.expires else "for ever"
    print(
        f"farandole: key {record.id} ({name}) permits {', '.join(scopes)} {ends}; keep it now, it is not shown again",
        file=sys.stderr,
    )


@app.command("list", cls=PlainCommand)
def list_keys(directory: Directory = None, as_json: AsJson = False) -> None:
    """List the keys: names, scopes, limits and states, never the keys themselves."""
    records = _store(directory).records()
    if as_json:
        print(json_text({"keys": [record.public() for record in records]}, indent=2))
        return
    console = make_console()
    if not records:
        print_text(console, "there are no keys; `farandole keys create` makes one")
        return
    columns = [
        Column("id", style="bold"),
        Column("name"),
        Column("state"),
        Column("scopes", is_text=True),
        Column("expires"),
        Column("rate", is_number=True),
        Column("rows a day", is_number=True),
    ]
    print_table(console, columns, [_row(record) for record in records])


@app.command(cls=PlainCommand)
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID_OR_NAME", help="The key's id or name.", show_default=False)],
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Make a key invalid; running services refuse it from their next request on."""
    record = _store(directory).revoke(key)
    if as_json:
        print(json_text(record.public(), indent=2))
        return
    print(f"key {record.id} ({record.name}) is revoked since {record.revoked}")


@audit.command(cls=PlainCommand)
def verify(
    head: Annotated[
        str | None,
        typer.Option(
            metavar="HEX",
            help="A head that was shown earlier; it must still be part of the log.",
            show_default=False,
        ),
    ] = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Check every line of the audit log, and show the first that is broken; exit code 2 if one is."""
    from farandole.serving.access import access_directory, read_secret, verify_audit

    where = directory or access_directory()
    report = verify_audit(where, read_secret(where, create=False), noted_head=head)
    if as_json:
        print(json_text(report.to_dict(), indent=2))
    else:
        _show_report(report)
    if not report.is_intact:
        sys.exit(2)


def _show_report(report: AuditReport) -> None:
    if not report.is_intact:
        line = f":{report.line}" if report.line else ""
        print(f"{report.file}{line}: {report.problem}; {report.lines:,} lines before are intact", file=sys.stderr)
        return
    print(f"all {report.lines:,} lines are intact; head {report.head}")
    for writer in report.unclosed:
        print(f"worker {writer} is running, or was killed: refusals that it had only counted are missing")
    if report.repairs:
        numbers = ", ".join(map(str, report.repairs))
        print(f"the log was repaired after a worker died, at the lines {numbers}; each says what was done")


def _store(directory: Path | None, *, can_create: bool = False) -> KeyStore:
    from farandole.serving.access import KeyStore, access_directory, open_directory, read_secret

    where = directory or access_directory()
    if not can_create:
        return KeyStore(where)
    open_directory(where)
    return KeyStore(where, read_secret(where, create=True))


def _scope(text: str) -> Scope:
    from farandole.serving.access import SCOPES

    for known in SCOPES:
        if text == known:
            return known
    close = closest_match(text, list(SCOPES))
    hint = f"did you mean {close}?" if close else f"the scopes are {', '.join(SCOPES)}"
    raise SpecError(f"--scope: {text}: there is no such scope; {hint}")


def _row(record: KeyRecord) -> list[str]:
    rows = f"{record.daily_rows:,}" if record.daily_rows else ""
    expires = record.expires or "never"
    return [record.id, record.name, record.state, ", ".join(record.scopes), expires, record.rate or "", rows]
