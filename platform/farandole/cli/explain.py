"""`farandole explain`: the columns that a model or a single prediction depends on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farandole.cli.help import PlainCommand
from farandole.errors import DataError

if TYPE_CHECKING:
    from farandole.explaining import Explanation
    from farandole.explaining.report import Report
    from farandole.serving.explanation import RecordedReport

_MAX_TOKENS = 12


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(cls=PlainCommand, rich_help_panel="Models")(explain)


def explain(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A run's id, a bundle's directory, models:/NAME/VERSION, models:/NAME@ALIAS or runs:/RUN_ID/model.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Rows to explain by, CSV or Parquet, with the columns of the job's query and its label.",
            show_default="the test split of the model's dataset",
        ),
    ] = None,
    row: Annotated[
        list[str] | None,
        typer.Option(
            "--row", metavar="JSON", help="Explain the prediction for this row; may be repeated.", show_default=False
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="With --row: the class to explain.", show_default="the predicted one"),
    ] = None,
    rows: Annotated[int, typer.Option(metavar="N", min=1, help="Rows at most.")] = 1000,
    repeats: Annotated[int, typer.Option(metavar="N", min=1, help="Permutations of each column.")] = 5,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the permutations.")] = 0,
    seconds: Annotated[
        float, typer.Option(metavar="S", min=0, help="Seconds after which no further part is started.")
    ] = 300.0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the plots and numbers here as well.", show_default=False),
    ] = None,
    run_code: Annotated[bool, typer.Option("--run-code", help="Let code that the bundle carries run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Explain a model by its columns, and record plots in its MLflow run; or, with --row, single predictions."""
    from farandole.cli.progress import event_display
    from farandole.explaining.report import Limits
    from farandole.serving import explanation

    if row:
        parsed = [_parse_row(text) for text in row]
        with event_display() as on_event:
            found = explanation.explain_rows(model, parsed, target=target, run_code=run_code, on_event=on_event)
        _show_rows(found, parsed, as_json=as_json)
        return
    limits = Limits(rows=rows, repeats=repeats, seed=seed, seconds=seconds)
    with event_display() as on_event:
        recorded = explanation.explain(model, limits, data=data, folder=out, run_code=run_code, on_event=on_event)
    _show_report(recorded, as_json=as_json)


def _parse_row(text: str) -> dict[str, Any]:
    """Return a row as a mapping from column to value.

    Raises:
        DataError: The text is not a JSON object.
    """
    try:
        row = json.loads(text)
    except ValueError as error:
        raise DataError(
            f"--row: {text[:60]!r} is not JSON ({error}); write it as '{{\"column\": value, …}}'"
        ) from error
    if not isinstance(row, dict):
        raise DataError(f"--row: {text[:60]!r} is not an object; write it as '{{\"column\": value, …}}'")
    return row


def _show_report(recorded: RecordedReport, *, as_json: bool) -> None:
    from farandole.cli.console import make_console, print_values

    document = recorded.report.document
    if as_json:
        print(json.dumps({**document, "mlflow_run_id": recorded.run_id}, indent=2))
        return
    console = make_console()
    _print_columns(recorded.report)
    values = [
        ("explained", recorded.report.summary),
        ("score", f"{document['metric']} {document['score']:.4g}" if document["score"] is not None else "not measured"),
        ("unit", document["unit"]),
    ]
    gaps = document["completeness"]
    if gaps:
        difference = gaps["mean_difference"]
        values.append(("error", f"{gaps['mean_gap']:.2g} on average, of a mean difference of {difference:.2g}"))
    dead = [f"{layer['layer']} {layer['dead']:.0%}" for layer in document["activations"] or () if layer["dead"]]
    values.append(("dead units", ", ".join(dead) or "none"))
    if document["skipped"]:
        values.append(("left out", ", ".join(document["skipped"])))
    if recorded.run_id:
        values.append(("MLflow run", f"{recorded.run_id}, explanations/"))
    if recorded.folder:
        values.append(("files", str(recorded.folder)))
    print()
    print_values(console, values)


def _print_columns(report: Report) -> None:
    """Print a table with the columns, the most important one first."""
    from farandole.cli.console import Column, make_console, print_table

    columns = report.document["columns"]

    def importance(name: str) -> tuple[float, float]:
        entry = columns[name]
        permutation, attribution = entry.get("permutation") or {}, entry.get("attribution") or {}
        return -permutation.get("mean", 0.0), -attribution.get("share", 0.0)

    lines = []
    for name in sorted(columns, key=importance):
        permutation, attribution = columns[name].get("permutation"), columns[name].get("attribution")
        lines.append(
            [
                name,
                f"{permutation['mean']:.4f}" if permutation else "",
                f"{permutation['deviation']:.4f}" if permutation else "",
                f"{attribution['mean_size']:.3g}" if attribution else "",
                f"{attribution['share']:.0%}" if attribution else "",
                columns[name]["baseline"],
            ]
        )
    heads = [
        Column("column"),
        Column(f"loss of {report.document['metric']}", is_number=True),
        Column("±", is_number=True),
        Column("attribution", is_number=True),
        Column("share", is_number=True),
        Column("baseline", is_text=True),
    ]
    print_table(make_console(), heads, lines)


def _show_rows(found: list[Explanation], rows: list[dict[str, Any]], *, as_json: bool) -> None:
    from farandole.cli.console import Column, make_console, print_table, print_values

    if as_json:
        print(json.dumps([explanation.to_dict() for explanation in found], indent=2))
        return
    console = make_console()
    for number, (explanation, row) in enumerate(zip(found, rows, strict=True)):
        if number:
            print()
        ordered = sorted(explanation.columns.items(), key=lambda pair: -abs(pair[1]))
        heads = [Column("column"), Column("value", is_text=True), Column("attribution", is_number=True)]
        lines = [[name, _shown(row.get(name)), f"{value:+.4g}"] for name, value in ordered]
        title = f"{explanation.target}: {explanation.output:.4g} ({explanation.unit})"
        print_table(console, heads, lines, title=title)
        values = [("baseline", f"{explanation.baseline_output:.4g}"), ("error", f"{explanation.delta:.2g}")]
        for column, tokens in explanation.tokens.items():
            strongest = sorted(tokens, key=lambda token: -abs(token.weight))[:_MAX_TOKENS]
            words = ", ".join(f"{token.token.strip()} {token.weight:+.3g}" for token in strongest)
            values.append((column, words or "no tokens"))
        print_values(console, values)


def _shown(value: object) -> str:
    text = "missing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
