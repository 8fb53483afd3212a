"""Options that several benchmarks have, and their help."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farandole.cli.help import PlainCommand

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

_TABLE = re.compile(r"\{([\w.]+):(\w+)\}")


class BenchCommand(PlainCommand):
    """Command whose help lists the names of cases and systems, which only the help has to import."""

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the options, with names instead of references to tables of names."""
        for param in self.params:
            text = getattr(param, "help", None)
            if text:
                param.help = _TABLE.sub(_names_of, text)  # type: ignore[attr-defined]
        super().format_options(ctx, formatter)


def _names_of(found: re.Match[str]) -> str:
    module, table = found.groups()
    return ", ".join(getattr(importlib.import_module(f"benchmarks.{module}"), table))


def cases_of(table: str) -> Any:
    """Return the option that chooses cases.

    Args:
        table: Where their names are: a module of the benchmarks, a colon, and the table in it.
    """
    return typer.Option("--case", metavar="NAME", help=f"One of {{{table}}}. Repeatable. Default: all.")


def systems_of(*tables: str, default: str = "all installed ones") -> Any:
    """Return the option that chooses systems.

    Args:
        tables: Where their names are: a module of the benchmarks, a colon, and the table in it.
        default: Which ones are measured without the option.
    """
    names = ", ".join(f"{{{table}}}" for table in tables)
    return typer.Option("--system", metavar="NAME", help=f"One of {names}. Repeatable. Default: {default}.")


def number(text: str, least: int | None = 1, most: int | None = None) -> Any:
    """Return an option that takes a whole number.

    Args:
        text: Its help.
        least: The least number; None: there is none.
        most: The greatest number; None: there is none.
    """
    return typer.Option(metavar="N", min=least, max=most, help=text)


AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout; everything else goes to stderr.")
]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print the tables in Markdown, as in BENCHMARKS.md.")]
PeersPython = Annotated[
    str,
    typer.Option(
        metavar="PATH",
        help="The interpreter in which the peers are installed.",
        show_default="this one",
    ),
]
Repeats = Annotated[int, number("Runs of each system; the fastest one counts.")]
Quick = Annotated[bool, typer.Option("--quick", help="Few rows, once: to check that it works, not to compare.")]
