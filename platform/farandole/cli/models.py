"""`farandole models …`: commands for the models in MLflow's registry."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farandole.cli.completion import one_of
from farandole.cli.help import GroupedCommands, PlainCommand
from farandole.errors import UserError

if TYPE_CHECKING:
    from farandole.serving.registry import Promotion

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A bundle's directory, models:/NAME/VERSION, models:/NAME@ALIAS or runs:/RUN_ID/model.",
        show_default=False,
    ),
]
Version = Annotated[
    str, typer.Argument(metavar="NAME[/VERSION|@ALIAS]", help="The registered model.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

app = typer.Typer(
    cls=GroupedCommands,
    help="List, compare, promote and trace registered models.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list", cls=PlainCommand)
def list_models(as_json: AsJson = False) -> None:
    """List the registered models and their aliases."""
    from farandole.cli import render_models
    from farandole.serving import registry

    render_models.show_models(registry.list_models(), as_json=as_json)


@app.command(cls=PlainCommand)
def show(model: Version, as_json: AsJson = False) -> None:
    """Show the versions of a model, or one of them with all that is known of it."""
    from farandole.cli import render_models
    from farandole.serving import registry

    versions = registry.show_model(model)
    if "/" in model.removeprefix("models:/") or "@" in model:
        render_models.show_version(versions[0], as_json=as_json)
    else:
        render_models.show_versions(versions, as_json=as_json)


@app.command(cls=PlainCommand)
def promote(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The registered model.", show_default=False)],
    version: Annotated[
        str | None,
        typer.Argument(metavar="[VERSION]", help="The version, or @ALIAS for that of an alias.", show_default=False),
    ] = None,
    alias: Annotated[str, typer.Option(metavar="ALIAS", help="The alias to move.")] = "champion",
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Return to the version before the last promotion.")
    ] = False,
    require: Annotated[
        list[str] | None,
        typer.Option(
            "--require",
            metavar="GATE",
            help="Promote only if a gate is passed: better, signature or explanation; may be repeated.",
            show_default=False,
            autocompletion=one_of("better", "signature", "explanation"),
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For better: the metric of the test split.", show_default="the primary one"),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", metavar="FILE", help="For signature: the public key.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the gates, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Move an alias to a version, if the gates are passed; exit code 2 if one is not."""
    from farandole.cli import render_models
    from farandole.serving import registry

    plan = registry.plan_promotion(
        name,
        version,
        alias=alias,
        rollback=rollback,
        require=require or (),
        metric=metric,
        public_key=public_key,
    )
    if not as_json:
        render_models.show_promotion(plan)
    is_wanted = plan.passed and plan.is_needed and not dry_run
    if is_wanted and not yes:
        _confirm(plan)
    done = registry.promote(plan) if is_wanted else plan
    render_models.show_promoted(done, dry_run=dry_run, as_json=as_json)
    if not done.passed:
        sys.exit(UserError.exit_code)


@app.command(cls=PlainCommand)
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="NAME/VERSION or NAME@ALIAS.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="The other version.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Show two versions side by side: metrics, rows, params that differ, sizes, datasets."""
    from farandole.cli import render_models
    from farandole.serving import registry

    render_models.show_comparison(registry.compare_models(first, second), as_json=as_json)


@app.command(cls=PlainCommand)
def trace(model: Model, as_json: AsJson = False) -> None:
    """Show where a model comes from: its run, job file, dataset, query, policies and source files."""
    from farandole.cli import render_models
    from farandole.serving import registry

    render_models.show_trace(registry.trace_model(model), as_json=as_json)


@app.command(cls=PlainCommand)
def card(model: Model, as_json: AsJson = False) -> None:
    """Show the card of a model, in Markdown."""
    from farandole.cli import render_models
    from farandole.cli.progress import event_display
    from farandole.serving import registry

    with event_display() as on_event:
        found = registry.model_card(model, on_event)
    render_models.show_card(found, as_json=as_json)


@app.command(cls=PlainCommand)
def compress(
    model: Model,
    int8: Annotated[
        list[str] | None,
        typer.Option(
            "--int8",
            metavar="METHOD",
            help="8-bit weights: static (calibrated on the validation split) or dynamic.",
            show_default=False,
            autocompletion=one_of("static", "dynamic"),
        ),
    ] = None,
    prune: Annotated[
        list[float] | None,
        typer.Option("--prune", metavar="SHARE", help="Set this share of the weights to 0.", show_default=False),
    ] = None,
    epochs: Annotated[
        int, typer.Option(metavar="N", help="For --prune: epochs of training afterwards; 0 for none.")
    ] = 3,
    student: Annotated[
        list[str] | None,
        typer.Option(
            "--student",
            metavar="MODEL",
            help="A model that was trained with this one as train.distill.teacher.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write the new bundle here.", show_default=False),
    ] = None,
    register: Annotated[bool, typer.Option("--register", help="Add a version with the new bundle.")] = False,
    max_drop: Annotated[
        float, typer.Option("--max-drop", metavar="SHARE", help="Largest accepted drop of the test metric.")
    ] = 0.01,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="The dataset directory.", show_default="where the job prepared it"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure, and write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a model smaller; exit code 2 if a smaller one predicts too much worse.

    Several ways may be named, and make one table.
    """
    from farandole.cli import render_models
    from farandole.cli.progress import event_display
    from farandole.serving.compression import Way, compress_ways

    ways = [
        *(Way(int8=method) for method in int8 or ()),
        *(Way(prune=share, epochs=epochs) for share in prune or ()),
        *(Way(student=name) for name in student or ()),
    ]
    with event_display() as on_event:
        found = compress_ways(
            model,
            ways,
            output=output,
            register=register,
            measure_only=dry_run,
            max_drop=max_drop,
            dataset=dataset,
            on_event=on_event,
        )
    render_models.show_compressions(found, as_json=as_json)
    if not all(each.accepted for each in found):
        sys.exit(UserError.exit_code)


def _confirm(plan: Promotion) -> None:
    """Ask whether to promote.

    Raises:
        UserError: Nobody can be asked, or the answer is no.
    """
    if not sys.stdin.isatty():
        raise UserError("models promote: there is no terminal to ask for a confirmation; add --yes to promote")
    if not typer.confirm(f"Move {plan.name}@{plan.alias} to version {plan.version}?", err=True):
        raise UserError(f"{plan.name}@{plan.alias}: was not moved")
