"""`farandole data …`: commands that inspect datasets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from farandole.cli.completion import datasets as known_datasets
from farandole.cli.help import GroupedCommands, PlainCommand
from farandole.process.json_text import json_text

Directory = Annotated[
    str,
    typer.Argument(
        metavar="DIR",
        help="The dataset directory, a path or a URI (s3://…).",
        show_default=False,
        autocompletion=known_datasets,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

app = typer.Typer(
    cls=GroupedCommands, help="Inspect, verify and compare datasets.", no_args_is_help=True, rich_markup_mode=None
)


@app.command(cls=PlainCommand)
def inspect(
    directory: Directory,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="With --html: the file to write.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    html: Annotated[
        bool, typer.Option("--html", help="Write a page with histograms to FILE, by default NAME.html in this folder.")
    ] = False,
) -> None:
    """Show rows, sizes, columns, statistics and lineage."""
    from farandole.cli import datasets
    from farandole.shards import read_manifest

    if file is not None and not html:
        raise typer.BadParameter(f"{file}: only --html writes a file; add it, or leave the file out")
    if html:
        datasets.write_page(directory, file or Path(f"{Path(directory).absolute().name}.html"), as_json=as_json)
        return
    datasets.show(directory, read_manifest(directory), as_json=as_json)


@app.command(cls=PlainCommand)
def head(
    directory: Directory,
    rows: Annotated[int, typer.Option("--rows", "-n", metavar="N", min=1, help="How many rows.")] = 5,
    split: Annotated[str, typer.Option(metavar="NAME", help="Which split.")] = "train",
    decode: Annotated[
        bool,
        typer.Option(
            "--decode", help="Show tokens as text, categories by their values, the label by its class or in its unit."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the first rows of a split, as models see them."""
    from farandole.cli import datasets
    from farandole.shards import Dataset

    datasets.show_rows(Dataset(directory), split, rows, decode=decode, as_json=as_json)


@app.command(cls=PlainCommand)
def verify(directory: Directory, as_json: AsJson = False) -> None:
    """Read every byte and list what is damaged; exit code 2 if anything is."""
    from farandole.shards import has_key, read_manifest
    from farandole.shards import verify as verify_dataset
    from farandole.storage import open_storage

    problems = verify_dataset(directory)
    if as_json:
        print(json_text({"path": str(directory), "problems": [problem.to_dict() for problem in problems]}, indent=2))
    for problem in problems:
        name = "manifest" if problem.shard is None else open_storage(directory).display_path(problem.shard)
        block = "" if problem.block is None else f": record batch {problem.block}"
        print(f"{name}{block}: {problem.text}; prepare the dataset again", file=sys.stderr)
    if problems:
        sys.exit(2)
    if not as_json:
        manifest = read_manifest(directory)
        shards = [shard for group in manifest.splits.values() for shard in group]
        size_mb = sum(shard.bytes for shard in shards) / 1e6
        print(f"{directory}: all {len(shards)} shards ({size_mb:,.1f} MB) match the manifest")
        if not has_key(manifest):
            print(f"{directory}: the shards are encrypted and the key is missing, so they were not decrypted")


@app.command(cls=PlainCommand)
def diff(
    first: Directory,
    second: Annotated[
        str,
        typer.Argument(
            metavar="OTHER", help="Another dataset directory.", show_default=False, autocompletion=known_datasets
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Show the differences between two datasets; exit code 1 if there are any."""
    from farandole.cli import datasets
    from farandole.shards import compare, read_manifest

    differences: list[dict[str, Any]] = compare(read_manifest(first), read_manifest(second))
    datasets.show_differences(first, second, differences, as_json=as_json)
    if differences:
        sys.exit(1)
