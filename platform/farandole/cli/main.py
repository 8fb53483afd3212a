"""The command `farandole`: the only module that turns an error into text and an exit code."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Annotated

import typer

from farandole.cli import data, deploy, explain, init, jobs, keys, models, pipeline, score, serve, sweep, tools
from farandole.cli.completion import use_bash_script
from farandole.cli.console import make_console, prepare_output, print_text
from farandole.cli.help import GroupedCommands
from farandole.errors import FarandoleError
from farandole.process.signals import TERMINATED_EXIT_CODE, Terminated, raise_on_sigterm
from farandole.tracking.run_link import COMMAND_VARIABLE

_INTERRUPTED = 130

app = typer.Typer(
    name="farandole",
    cls=GroupedCommands,
    help="From raw tables to a registered model: Spark, Arrow shards, Horovod, PyTorch and MLflow behind one job file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain lists, which fit narrow terminals and those without box characters
)
init.add_to(app)
pipeline.add_to(app)
jobs.add_to(app)
sweep.add_to(app)
serve.add_to(app)
deploy.add_to(app)
app.add_typer(data.app, name="data", rich_help_panel="Datasets")
app.add_typer(models.app, name="models", rich_help_panel="Models")
app.add_typer(keys.app, name="keys", rich_help_panel="Models")
explain.add_to(app)
score.add_to(app)
tools.add_to(app)
use_bash_script()


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"farandole {version('farandole')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show stack traces, Java's and the workers' too.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if debug:
        os.environ["FARANDOLE_DEBUG"] = "1"


def main() -> None:
    """Run a command; turn an error into a message on stderr and an exit code."""
    prepare_output()
    raise_on_sigterm()
    os.environ[COMMAND_VARIABLE] = shlex.join(["farandole", *sys.argv[1:]])
    try:
        app()
    except FarandoleError as error:
        _show(error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as ended:
        # typer turns Ctrl-C into a silent exit
        if isinstance(ended, SystemExit) and ended.code != _INTERRUPTED:
            raise
        print("farandole: interrupted; everything that was started has ended", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except Terminated:
        print("farandole: terminated; everything that was started has ended", file=sys.stderr)
        sys.exit(TERMINATED_EXIT_CODE)


def _show(error: FarandoleError) -> None:
    for line in str(error).splitlines():
        _print_error(line)
    if error.next_step:
        _print_error(error.next_step)
    if error.detail and os.environ.get("FARANDOLE_DEBUG"):
        print(f"\n{error.detail}", file=sys.stderr)
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    elif error.detail:
        print("farandole: `farandole --debug …` shows more", file=sys.stderr)


def _print_error(text: str) -> None:
    """Print a line on stderr: wrapped between words on a terminal, whole where a program reads it."""
    if sys.stderr.isatty():
        print_text(make_console(stderr=True), f"farandole: {text}", indent=2)
    else:
        print(f"farandole: {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
