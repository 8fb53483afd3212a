"""The guesses as a job file: short, commented, and run as it is."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from farandole.errors import SpecError, explain_os_error
from farandole.events import format_count
from farandole.guessing.guess import Guess
from farandole.guessing.resolve import resolve_guesses
from farandole.process.atomic import write_atomic
from farandole.spec import parse_job
from farandole.spec.yaml_reader import read_yaml
from farandole.storage import is_uri

JOB_FILE = "job.yaml"
MAX_LINES = 60
_WIDTH = 110
_MAX_FEATURE_LINES = 26
_MAX_TYPE_LINES = 8
_LISTED = 6
_SQL_NAMES = {"bigint": "long"}
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./:()-]*")


def job_text(guess: Guess, directory: Path) -> str:
    """Return the text of the job file.

    Args:
        guess: The guesses.
        directory: The folder that the file will be in.
    """
    before = [
        f"# Guessed by `farandole init` from {guess.rows:,} rows{'' if guess.is_whole else ' (not all were read)'}.",
        "# Change what is wrong; `farandole plan` checks it, and docs/job_file.md lists every field.",
        f"name: {scalar(guess.name)}",
        "",
        "data:",
        *_source_lines(guess, directory),
        *_query_lines(guess),
        *_left_out_lines(guess),
    ]
    after = [
        *_leak_lines(guess),
        f"  label: {_flow(guess.label.spec)} # {_comment(guess.label.reason)}",
        f"  split: {_flow(guess.split.spec)} # {_comment(guess.split.reason)}",
        "",
        "model:",
        f"  builder: {guess.builder} # or your_module:function, beside this file",
        "# Epochs, batch size and learning rate follow from the number of rows: `farandole plan` shows them.",
    ]
    budget = min(_MAX_FEATURE_LINES, MAX_LINES - len(before) - len(after) - 1)
    lines = [*before, *_feature_lines(guess, budget), *after]
    assert len(lines) <= MAX_LINES, f"{len(lines)} lines"
    return "\n".join(lines) + "\n"


def scalar(value: Any) -> str:
    """Return a value as YAML that a job file reads as the same value, on one line."""
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and not value.endswith(":") and yaml.safe_load(value) == value:
        return value
    # YAML's double quotes are JSON's, except for characters that YAML does not allow unescaped.
    return re.sub(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd]", _escaped, json.dumps(value, ensure_ascii=False))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _source_lines(guess: Guess, directory: Path) -> list[str]:
    lines = ["  sources:", "    data:", f"      path: {scalar(_written_path(guess.path, directory))}"]
    lines += [f"      {key}: {_flow(value)}" for key, value in guess.source.items()]
    types = _declared_types(guess)
    if types is not None:
        comment = " # only these are read; without the list, all are, and their types are guessed"
        if guess.source.get("header") is False:
            comment = " # the file has no header: these are its columns in their order"
        wrapped = _wrapped(types, "        ", _MAX_TYPE_LINES, wide=guess.needs_types)
        if wrapped is not None:
            lines += [f"      columns: {{{comment}", *wrapped, "      }"]
    return lines


def _declared_types(guess: Guess) -> dict[str, str] | None:
    """Return the columns to declare: those that are used; or all, where the files do not name them."""
    if guess.types is None:
        return None
    used = {feature.column for feature in guess.features} | {guess.label.column, *guess.split.columns}
    everything = guess.source.get("header") is False
    return {name: _SQL_NAMES.get(kind, kind) for name, kind in guess.types.items() if everything or name in used}


def _written_path(path: str, directory: Path) -> str:
    """Return a path as the job file says it: relative to its folder where the data are near."""
    if is_uri(path):
        return path
    relative = os.path.relpath(path, directory)
    near = relative.count("..") <= 2
    return (relative if not relative.startswith("~") else f"./{relative}") if near else path


def _left_out_lines(guess: Guess) -> list[str]:
    if not guess.left_out:
        return []
    shown = [f"  #   {_comment(entry.column)}: {_comment(entry.reason)}" for entry in guess.left_out[:_LISTED]]
    more = len(guess.left_out) - len(shown)
    return [
        "  # Left out:",
        *shown,
        *([f"  #   and {more:,} more: `farandole init --json` lists them"] if more else []),
    ]


def _feature_lines(guess: Guess, max_lines: int) -> list[str]:
    """Return the features: one in each line, or several; if that takes too many lines, those that cannot be guessed."""
    entries = {feature.name: _short(feature.spec) for feature in guess.features}
    if len(entries) <= max_lines:
        notes = {feature.name: feature.note for feature in guess.features}
        return [
            "  features:",
            *(
                f"    {scalar(name)}: {text}" + (f" # {_comment(notes[name])}" if notes[name] else "")
                for name, text in entries.items()
            ),
        ]
    wrapped = _wrapped(entries, "    ", max_lines - 2, as_is=True)
    if wrapped is not None:
        return ["  features: {", *wrapped, "  }"]
    named = {feature.name: entries[feature.name] for feature in guess.features if feature.column in guess.replaced}
    number = f"{len(entries) - len(named):,}"
    if not named:
        return [f"  features: auto # {number} of them, guessed again from the files: `farandole plan` shows them"]
    wrapped = _wrapped(named, "    ", max_lines - 3, as_is=True, wide=True)
    assert wrapped is not None, "wide lines hold everything"
    comment = f"{number} more are guessed again from the files: `farandole plan` shows them"
    return ["  features: {", f"    auto: true, # {comment}", *wrapped, "  }"]


def _short(spec: Mapping[str, Any]) -> str:
    """Return a feature: its kind alone, where that says everything."""
    return str(spec["kind"]) if len(spec) == 1 else _flow(spec)


def _wrapped(
    entries: Mapping[str, str], indent: str, max_lines: int, *, as_is: bool = False, wide: bool = False
) -> list[str] | None:
    """Return the entries of a mapping in a few lines.

    Args:
        entries: Key to value.
        indent: What each line begins with.
        max_lines: The maximum number of lines.
        as_is: Whether the values are YAML.
        wide: Whether lines may be wider than is readable, if there are too many.

    Returns:
        The lines; None if there are too many.
    """
    texts = [f"{scalar(name)}: {value if as_is else scalar(value)}, " for name, value in entries.items()]
    width = _WIDTH
    while len(lines := _lines(texts, width - len(indent))) > max_lines and wide:
        width *= 2
    return [indent + line for line in lines] if len(lines) <= max_lines else None


def _lines(texts: list[str], width: int) -> list[str]:
    lines = [""]
    for text in texts:
        if lines[-1] and len(lines[-1] + text) > width:
            lines.append("")
        lines[-1] += text
    return [line.rstrip() for line in lines]


def _leak_lines(guess: Guess) -> list[str]:
    return [
        f"  # Does {_comment(leak.column)} leak the label? It alone predicts it ({leak.measure} {leak.score:.3f})."
        " Remove it if it is known only later."
        for leak in guess.leaks[:3]
    ]


def _query_lines(guess: Guess) -> list[str]:
    if guess.query is None:
        return []
    if not guess.query.isprintable() and any(not char.isprintable() and char != "\n" for char in guess.query):
        return [f"  query: {scalar(guess.query)} # {_query_note(guess)}"]
    return [f"  query: | # {_query_note(guess)}", *(f"    {line}" for line in guess.query.splitlines())]


def _query_note(guess: Guess) -> str:
    reasons = ["some values become numbers, times or missing"] if guess.replaced else []
    if guess.label.missing:
        reasons.append(f"{format_count(guess.label.missing, 'row')} without a label")
    if guess.label.rare:
        reasons.append(f"of {format_count(len(guess.label.rare), 'label')} there are too few rows")
    return ", ".join(reasons)


def _flow(value: Any) -> str:
    """Return a value in YAML's flow style, on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(inner) for inner in value) + "]"
    return scalar(value)


def _comment(text: str) -> str:
    """Return text for a comment: on one line, without control characters."""
    return re.sub(r"\s+", " ", "".join(char if char.isprintable() else " " for char in text))


def default_directory(guess: Guess) -> Path:
    """Return the folder for the job file: one in the current directory, named like the job and not among the data."""
    folder = Path.cwd() / guess.name
    data = Path(guess.path)
    return folder.with_name(f"{guess.name}-job") if folder == data or data in folder.parents else folder


def write_job_file(guess: Guess, directory: Path, *, force: bool = False) -> Path:
    """Write the job file into a folder.

    Args:
        guess: The guesses.
        directory: The folder; it is created.
        force: Whether to replace a job file that is there.

    Returns:
        The path of the file.

    Raises:
        SpecError: There is one already, the folder holds the data, the file cannot be written, or no command would
            accept it.
    """
    directory = directory.absolute()
    path = directory / JOB_FILE
    data = Path(guess.path)
    if data.is_dir() and (data == directory or data in directory.parents):
        raise SpecError(
            f"--output {directory}: is in the folder of the data, all of whose files are read; choose another"
        )
    if path.exists() and not force:
        raise SpecError(f"{path}: exists already; add --force to replace it, or choose another folder with --output")
    text = job_text(guess, directory)
    resolve_guesses(parse_job(read_yaml(text, str(path)).value, folder=directory, origin=str(path)))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    except OSError as error:
        raise SpecError(f"--output {explain_os_error(error, directory)}") from error
    return path
