"""Everything that a job file says about data, guessed. Reads top to bottom."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farandole.errors import DataError, SpecError
from farandole.events import EventHandler, format_count, ignore_event
from farandole.guessing.features import FeatureGuess, LeftOut, drop_texts, guess_features, without_accents
from farandole.guessing.labels import LEAST_ROWS, LabelGuess, guess_label
from farandole.guessing.leaks import Leak, find_leaks
from farandole.guessing.pictures import Pictures, holds_images, look_at_images
from farandole.guessing.queries import quote_name, quote_values, write_query
from farandole.guessing.sampling.csv_sample import sample_csv
from farandole.guessing.sampling.json_sample import sample_json
from farandole.guessing.sampling.parquet_sample import sample_parquet
from farandole.guessing.sampling.sample import SOURCE, Sample
from farandole.guessing.splits import SplitGuess, guess_split, split_shares
from farandole.ingest.sources.files import SourceFiles, find_files
from farandole.spec import METRICS, CsvSource, ParquetSource, is_job_name

_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".data": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}
_MAX_CLASSES = 20
"""Dropped classes that are listed by name."""
_COMPRESSED = re.compile(r"\.(gz|bz2|zst|zip)$")
TABLES, IMAGES, TEXTS, ALL_KINDS = (f"farandole.models.{name}:build" for name in ("tabular", "cnn", "text", "fusion"))


@dataclass(frozen=True)
class Guess:
    """The content of a job file about data.

    Args:
        name: The job's name.
        path: The data: an absolute path or a URI.
        source: The source as the job file declares it, without path and columns.
        types: Column to SQL type, of the columns that the job file declares; None: it declares none.
        needs_types: Whether the job file has to declare them, however many they are.
        rows: The number of rows, estimated if not all were looked at.
        is_whole: Whether all rows were looked at.
        label: The label.
        features: The features.
        left_out: The columns that become no feature.
        split: The split.
        leaks: The columns that alone predict the label.
        query: The query; None: all rows as they are.
        replaced: The columns that the query replaces.
        builder: The model's builder.
        notes: What else a user should know, such as which rows are left out.
    """

    name: str
    path: str
    source: dict[str, Any]
    types: dict[str, str] | None
    rows: int
    is_whole: bool
    label: LabelGuess
    features: tuple[FeatureGuess, ...]
    left_out: tuple[LeftOut, ...]
    split: SplitGuess
    leaks: tuple[Leak, ...] = ()
    query: str | None = None
    replaced: tuple[str, ...] = ()
    builder: str = TABLES
    notes: tuple[str, ...] = ()
    needs_types: bool = False

    @property
    def warnings(self) -> list[str]:
        """Texts to read before the first training: leaks, what is left out, and what may be read wrong."""
        leaks = [
            f"{leak.column} alone predicts {self.label.column} ({leak.measure} {leak.score:.3f}); remove it if it is"
            " known only later"
            for leak in self.leaks
        ]
        return [*leaks, *self.notes]

    def to_dict(self) -> dict[str, Any]:
        """Return the guesses as plain data, for `farandole init --json`."""
        return {
            "name": self.name,
            "rows": self.rows,
            "source": {"path": self.path} | self.source,
            "label": self.label.spec | {"reason": self.label.reason, "alternatives": list(self.label.alternatives)},
            "dropped": {
                "rows_without_label": self.label.missing,
                "classes": {str(value): rows for value, rows in self.label.rare.items()},
            },
            "features": {feature.name: feature.spec for feature in self.features},
            "left_out": {entry.column: entry.reason for entry in self.left_out},
            "split": self.split.spec | {"reason": self.split.reason},
            "leaks": [{"column": leak.column, leak.measure: leak.score} for leak in self.leaks],
            "builder": self.builder,
            "warnings": self.warnings,
        }


@dataclass(frozen=True)
class RawData:
    """Files that were looked at, before anything is guessed about a label.

    Args:
        path: The data: an absolute path or a URI.
        sample: Rows of a table; None: these are images.
        pictures: The images; None: this is a table.
    """

    path: str
    sample: Sample | None
    pictures: Pictures | None = None


def look(path: str, on_event: EventHandler = ignore_event) -> RawData:
    """Find out what kind of data files hold, and read rows of them.

    Args:
        path: A file, a directory, a glob, a URI of an object store, or `package://NAME/FILE`.
        on_event: Receives the progress of downloads.

    Raises:
        DataError: There are no files, or they hold no table and no images.
        StorageAccessError: The object store does not list them.
        StorageError: The object store does not answer.
    """
    source = CsvSource(path=path)  # only its path matters here
    files = find_files(SOURCE, source).fetch(on_event)
    if holds_images(files):
        return RawData(source.path, None, look_at_images(files))
    kind = _format_of(files)
    if kind == "parquet":
        return RawData(source.path, sample_parquet(ParquetSource(path=path), files))
    return RawData(source.path, (sample_csv if kind == "csv" else sample_json)(path, files))


def guess(data: RawData, *, label: str | None = None, kind: str | None = None, name: str | None = None) -> Guess:
    """Guess everything that a job file says.

    Args:
        data: The files.
        label: The label's column. Default: the most likely one.
        kind: The label's kind: `binary`, `multiclass` or `regression`. Default: by its values.
        name: The job's name. Default: that of the file.

    Raises:
        SpecError: A job cannot have this name, or its label this kind.
        DataError: There is no label, nothing is left to learn from, or there are too few rows.
    """
    check_options(kind, name)
    name = name or job_name(data.path)
    if data.pictures is not None:
        return _guess_images(data.path, data.pictures, name, label)
    assert data.sample is not None, "data are a table or images"
    sample = data.sample
    if label is not None and label in sample.unreadable:
        raise DataError(f"--label {label}: {sample.unreadable[label]}")
    target = guess_label(sample.columns, label, kind)
    split = guess_split(sample.columns, target)
    kept = [column for column in sample.columns if column.name not in (target.column, split.group)]
    features, left_out = guess_features(kept, trend=split.time is None)
    if split.group is not None:
        left_out.append(LeftOut(split.group, "names the groups of the split"))
    left_out += [LeftOut(column, reason) for column, reason in sample.unreadable.items()]
    features, left_out = drop_texts(features, left_out)
    if not features:
        reasons = "; ".join(f"{entry.column}: {entry.reason}" for entry in left_out[:6]) or "there is no other column"
        raise DataError(f"{data.path}: no column is left to predict {target.column} from ({reasons})")
    used = {feature.column for feature in features} | {target.column}
    relevant = [column for column in sample.columns if column.name in used]
    replaced = {name: sql for name, sql in sample.conversions.items() if name in used | set(split.columns)}
    return Guess(
        name=name,
        path=data.path,
        source=sample.source,
        types=sample.types if sample.is_whole or sample.needs_types else None,
        rows=sample.rows,
        is_whole=sample.is_whole,
        label=target,
        features=tuple(features),
        left_out=tuple(left_out),
        split=split,
        leaks=tuple(find_leaks(relevant, target)),
        query=write_query(SOURCE, replaced, _conditions(sample, target)),
        replaced=tuple(replaced),
        builder=_builder(features),
        notes=(*_describe_dropped(target, is_whole=sample.is_whole), *sample.notes),
        needs_types=sample.needs_types,
    )


def check_options(kind: str | None, name: str | None) -> None:
    """Check what a user said about a job, which needs no look at the data.

    Args:
        kind: The label's kind; None: it is guessed.
        name: The job's name; None: it is that of the data.

    Raises:
        SpecError: A job cannot have this name, or its label this kind.
    """
    if name is not None and not is_job_name(name):
        raise SpecError(f"--name {name}: use lower-case letters, digits and `-`, at most 53 characters")
    if kind is not None and kind not in METRICS:
        raise SpecError(f"--kind {kind}: is not known; use {', '.join(METRICS)}")


def job_name(path: str) -> str:
    """Return the name of a job, made of the name of its data."""
    parts = [part for part in path.split("/") if part and not glob.has_magic(part)]
    stem = _COMPRESSED.sub("", parts[-1]) if parts else ""
    stem = re.sub(r"\.[A-Za-z0-9]{1,8}$", "", stem)
    return re.sub(r"[^a-z0-9]+", "-", without_accents(stem).lower()).strip("-")[:53].strip("-") or "job"


def _format_of(files: SourceFiles) -> str:
    """Return the format that the names of the files imply, or their first bytes.

    Raises:
        DataError: They are of several formats.
    """
    kinds: dict[str, Path] = {}
    for path in files.paths:
        suffix = Path(_COMPRESSED.sub("", path.name)).suffix.lower()
        kinds.setdefault(_SUFFIXES.get(suffix) or _format_by_content(path), path)
    if len(kinds) > 1:
        shown = " and ".join(f"{kind} ({path.name})" for kind, path in kinds.items())
        raise DataError(
            f"{files.base or files.paths[0].parent}: holds files of several formats: {shown}; name one of them"
        )
    return next(iter(kinds))


def _format_by_content(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"PAR1"):
        return "parquet"
    return "json" if start.lstrip().startswith((b"{", b"[")) else "csv"


def _guess_images(path: str, pictures: Pictures, name: str, label: str | None) -> Guess:
    rows, counts = len(pictures.classes), pictures.counts
    if label not in (None, "label"):
        raise DataError(f"--label {label}: images have one label, the name of their folder; leave the option out")
    if rows < LEAST_ROWS:
        raise DataError(f"{path}: {rows} images are too few to train, validate and test; give at least {LEAST_ROWS}")
    rare = {name: counts[name] for name in pictures.rare}
    kept = len(counts) - len(rare)
    if kept < 2:
        raise DataError(f"{path}: fewer than two of its {len(counts)} folders hold 5 images; give more images")
    kind = "binary" if kept == 2 else "multiclass"
    target = LabelGuess("label", kind, f"{kept} folders", {"column": "label", "kind": kind}, rare=rare)
    conditions = [f"label NOT IN ({quote_values(rare)})"] if rare else []
    return Guess(
        name=name,
        path=path,
        source={"format": "images"},
        types=None,
        rows=rows,
        is_whole=True,
        label=target,
        features=(FeatureGuess("image", "image", pictures.spec),),
        left_out=(LeftOut("path", "names the file"),),
        split=SplitGuess(split_shares(rows), "the images have no order and no groups"),
        query=write_query(SOURCE, {}, conditions),
        builder=IMAGES,
        notes=tuple(_describe_dropped(target, is_whole=True)),
    )


def _builder(features: list[FeatureGuess]) -> str:
    kinds = [feature.spec["kind"] for feature in features]
    if not {"text", "image"} & set(kinds):
        return TABLES
    if len(kinds) > 1:
        return ALL_KINDS
    return TEXTS if kinds == ["text"] else IMAGES


def _conditions(sample: Sample, label: LabelGuess) -> list[str]:
    """Return the SQL conditions of rows with a label, of a class with enough rows."""
    name, column = quote_name(label.column), sample.column(label.column)
    conditions = [f"{name} IS NOT NULL"] if label.missing else []
    if label.missing and column.kind == "number":
        conditions.append(f"NOT isnan({name})")
    if label.rare:
        conditions.append(f"{name} NOT IN ({quote_values(label.rare)})")
    return conditions


def _describe_dropped(label: LabelGuess, *, is_whole: bool) -> list[str]:
    """Return which rows and classes the query leaves out."""
    seen = "" if is_whole else " of those that were looked at"
    notes = [f"{format_count(label.missing, 'row')}{seen} without a value of {label.column}, to be left out"]
    shown = ", ".join(f"{value} ({format_count(rows, 'row')})" for value, rows in [*label.rare.items()][:_MAX_CLASSES])
    more = ", …" if len(label.rare) > _MAX_CLASSES else ""
    classes = "a class" if len(label.rare) == 1 else f"{len(label.rare):,} classes"
    notes += [f"{classes} of {label.column} with too few rows to learn{seen}, to be left out: {shown}{more}"]
    return [note for note, count in zip(notes, (label.missing, len(label.rare)), strict=True) if count]
