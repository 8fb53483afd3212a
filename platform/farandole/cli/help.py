"""The texts of `--help`: plain lists that fit narrow terminals, and commands in groups."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from typer.core import TyperArgument, TyperCommand, TyperGroup

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

_OTHER = "Commands"


class PlainCommand(TyperCommand):
    """Command whose help has neither braces around required arguments nor their types."""

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        """Return the parts of the usage line: `[OPTIONS]`, `JOB.yaml`."""
        # Of several values, the name may end in dots itself.
        return [re.sub(r"^\{(.*?)(\.{3})?\}(\.{3})?$", r"\1\3", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write arguments and options."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            if isinstance(param, TyperArgument):
                sections["Arguments"].append((param.display_name_raw, param.help or ""))
            else:
                sections["Options"].append(record)
        for heading, rows in sections.items():
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


class GroupedCommands(TyperGroup):
    """Group of commands whose help lists them under the headings of their `rich_help_panel`."""

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the commands, group by group in the order of their first commands."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                heading = getattr(command, "rich_help_panel", None)
                text = (command.short_help or command.help or "").strip().partition("\n")[0]
                groups.setdefault(heading if isinstance(heading, str) else _OTHER, []).append((name, text))
        width = max((len(name) for rows in groups.values() for name, _ in rows), default=0)
        for heading, rows in groups.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), text) for name, text in rows])
