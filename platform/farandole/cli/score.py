"""`export` and `predict`: the bundle of a model, and its predictions for files of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farandole.cli.completion import one_of
from farandole.cli.help import PlainCommand
from farandole.process.json_text import json_text

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A bundle's directory, models:/NAME/VERSION, models:/NAME@ALIAS or runs:/RUN_ID/model.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; all else goes to stderr.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command(cls=PlainCommand, rich_help_panel="Models")(export)
    app.command(cls=PlainCommand, rich_help_panel="Models")(predict)


def export(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A bundle's directory, models:/NAME/VERSION, models:/NAME@ALIAS, runs:/RUN_ID/model, or a job's id or"
            " directory.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="The bundle's new directory.", show_default=False),
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx/--no-onnx", help="Add the network as an ONNX graph.")] = True,
    query: Annotated[
        bool, typer.Option("--query/--no-query", help="Add the job's query, so that rows of the source can be sent.")
    ] = True,
    rows: Annotated[
        int,
        typer.Option("--rows", metavar="N", min=1, help="Compare the translated query with Spark on N rows."),
    ] = 10_000,
    sign_key: Annotated[
        Path | None,
        typer.Option("--sign-key", metavar="KEY", help="Sign with this Ed25519 key.", show_default=False),
    ] = None,
    new_key: Annotated[
        Path | None,
        typer.Option("--new-key", metavar="KEY", help="Only make a key pair: KEY and KEY.pub.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a model as files that hold no code: a bundle, which the service and other tools load."""
    from farandole.cli.progress import event_display

    if new_key is not None:
        from farandole.bundle.signing import create_key

        public = create_key(new_key)
        print(f"{new_key}: the private key, which signs bundles; keep it secret")
        print(f"{public}: the public key, with which a signature is checked")
        return
    if model is None or output is None:
        raise typer.BadParameter("write `farandole export MODEL -o DIR`", param_hint="MODEL and --output")
    from farandole.serving.exporting import export_model

    with event_display() as on_event:
        done = export_model(
            model, output, onnx=onnx, query_rows=rows if query else 0, sign_key=sign_key, on_event=on_event
        )
    if as_json:
        print(json_text(done.to_dict(), indent=2))
        return
    print(f"{done.path}: bundle of {done.name}, {done.digest}")
    for form, difference in done.forms.items():
        print(f"  {form}: outputs differ by at most {difference:.2g}")
    if done.test_rows:
        print(f"  metrics, intervals and parts of the test split from {done.test_rows:,} rows")
    if done.key_id:
        print(f"  signed with the key {done.key_id}")


def predict(
    model: Model,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="CSV and Parquet files of rows.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="OUT", help="The .parquet or .csv file to write.", show_default=False),
    ],
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep", metavar="COLUMN", help="Copy a column of the rows; may be repeated.", show_default=False
        ),
    ] = None,
    on_error: Annotated[
        str,
        typer.Option(
            metavar="fail|null",
            help="A row with a wrong value ends the command (fail), or has no prediction (null).",
            autocompletion=one_of("fail", "null"),
        ),
    ] = "fail",
    form: Annotated[
        str | None,
        typer.Option(metavar="FORM", help="The form of the network: eager, program, onnx, int8.", show_default=False),
    ] = None,
    master: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Let the executors of this Spark master compute; OUT becomes a directory.",
            show_default=False,
        ),
    ] = None,
    separator: Annotated[
        str | None,
        typer.Option(metavar="CHAR", help="CSV: the character between two fields; tab for a tab."),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="CSV: for example latin-1, cp1252 or utf-16.")
    ] = None,
    null_value: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="CSV: a text that means a missing value, beside those of the training; may be repeated.",
            show_default=False,
        ),
    ] = None,
    header: Annotated[
        bool | None,
        typer.Option("--header/--no-header", help="CSV: whether the first line names the columns.", show_default=False),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="CSV: the columns of files without a header, joined by commas."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the predictions for files of rows, in the order of the rows.

    CSV files are read as the job declares its source, where no option says otherwise.
    """
    from farandole.bundle import open_bundle
    from farandole.cli.progress import event_display
    from farandole.process.heap import keep_freed_memory
    from farandole.serving.csv_rows import CsvOptions
    from farandole.serving.registry import fetch_bundle
    from farandole.serving.scoring import ScoringOptions, score_files
    from farandole.serving.spark_scoring import score_on_spark

    if on_error not in ("fail", "null"):
        raise typer.BadParameter(f"{on_error!r}: write fail or null", param_hint="--on-error")
    names = tuple(columns.split(",")) if columns else ()
    csv = CsvOptions("\t" if separator == "tab" else separator, encoding, header, names, tuple(null_value or ()))
    options = ScoringOptions(form, tuple(keep or ()), "null" if on_error == "null" else "fail", csv=csv)
    keep_freed_memory()
    with event_display() as on_event:
        bundle = open_bundle(fetch_bundle(model, on_event))
        if master is None:
            result = score_files(bundle, files, output, options=options, on_event=on_event)
        else:
            result = score_on_spark(master, bundle, files, output, options=options)
    if as_json:
        print(json_text(result.to_dict(), indent=2))
        return
    rate = result.rows / max(result.seconds, 1e-9)
    print(f"{result.output}: predictions for {result.rows:,} rows ({rate:,.0f} rows/s)")
    if result.excluded:
        print(f"{result.excluded:,} rows are excluded by the model's query and have no prediction")
    if result.failed:
        print(f"{result.failed:,} rows have a wrong value and no prediction; the first is {result.first_failure}")
