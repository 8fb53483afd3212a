"""CSV files of rows to score: separator, encoding, header and missing values, by default those of the job's source."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from farandole.bundle import Bundle
from farandole.bundle.documents import LINEAGE
from farandole.errors import BundleError, DataError, SpecError, UserError
from farandole.spec import CsvSource, Job, parse_job

_CHECKED_BYTES = 1 << 20
_SEPARATORS = ",;\t|"


@dataclass(frozen=True)
class CsvOptions:
    """Options of CSV files; a field that is None or empty is as the job's source declares it.

    Args:
        separator: The character between two fields. Default: that of the source, or by the file's name.
        encoding: The encoding of the text.
        header: Whether the first line names the columns.
        columns: The columns of files without a header, in their order.
        null_values: Texts that mean a missing value, beside those of the training.
    """

    separator: str | None = None
    encoding: str | None = None
    header: bool | None = None
    columns: tuple[str, ...] = ()
    null_values: tuple[str, ...] = ()

    @property
    def given(self) -> list[str]:
        """The options of the command line that are not the default."""
        names = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        return [f"--{name.replace('_', '-').removesuffix('s' if name == 'null_values' else '')}" for name in names]


@dataclass(frozen=True)
class CsvFormat:
    """The form of CSV files of rows.

    Args:
        separator: The character between two fields; None: a tab in `.tsv`, else a comma.
        quote: The character around a field.
        encoding: The encoding of the text.
        columns: The columns of files without a header, in their order; None: the first line names them.
        null_values: Texts that are missing values wherever they stand.
    """

    separator: str | None = None
    quote: str = '"'
    encoding: str = "utf-8"
    columns: tuple[str, ...] | None = None
    null_values: tuple[str, ...] = ()

    def source(self, path: Path) -> CsvSource:
        """Return a file as a source.

        Raises:
            UserError: The separator or the encoding is none.
        """
        by_name = "\t" if ".tsv" in path.name.lower() else ","
        try:
            return CsvSource(
                path=str(path),
                format="csv",
                separator=self.separator or by_name,
                quote=self.quote,
                encoding=self.encoding,
                header=self.columns is None,
                columns=None if self.columns is None else dict.fromkeys(self.columns, "string"),
                null_values=self.null_values,
                multiline=True,
            )
        except ValidationError as error:
            first = error.errors()[0]
            reason = str(first["msg"]).removeprefix("Value error, ")
            raise UserError(f"--{first['loc'][0]} {first['input']!r}: {reason}") from error


def csv_format(bundle: Bundle, source: str | None, options: CsvOptions) -> CsvFormat:
    """Return how CSV files are read: by the options, else as the job's source declares.

    Args:
        bundle: The model.
        source: The source whose rows the model takes; None: it takes the columns of a query.
        options: What the caller says.

    Raises:
        UserError: The files have no header, and nobody names the columns.
    """
    declared = _declared(bundle, source)
    has_header = options.header if options.header is not None else (declared.header and not options.columns)
    columns: tuple[str, ...] | None = None
    if not has_header:
        columns = options.columns or (tuple(declared.columns or ()) if not declared.header else ())
        if not columns:
            raise UserError(
                "--no-header: the names of the columns are unknown; name all of them by --columns, in the order of the"
                " file"
            )
    elif options.columns:
        raise UserError("--columns: names the columns of files without a header; leave out --header, or --columns")
    separator = options.separator or (declared.separator if declared.separator != "," else None)
    return CsvFormat(separator, declared.quote, options.encoding or declared.encoding, columns, options.null_values)


def source_of_rows(bundle: Bundle) -> str | None:
    """Return the only source of a job without a query; None: there is none."""
    job = _job(bundle)
    return next(iter(job.data.sources)) if job and job.data.query is None and len(job.data.sources) == 1 else None


def _declared(bundle: Bundle, source: str | None) -> CsvSource:
    """Return the source as the job declares it, or a plain one if it is not of text."""
    job = _job(bundle) if source is not None else None
    found = job.data.sources.get(source) if job is not None and source is not None else None
    return found if isinstance(found, CsvSource) else CsvSource(path="rows.csv", format="csv")


def _job(bundle: Bundle) -> Job | None:
    try:
        return parse_job(bundle.read_json(LINEAGE)["job"], origin=LINEAGE)
    except (BundleError, SpecError, KeyError, TypeError):
        return None  # a bundle that no training wrote


def read_header(path: Path, csv: CsvFormat) -> list[str]:
    """Return the columns of a file.

    Raises:
        DataError: The file is empty, or is not text of its encoding.
    """
    from farandole.ingest.readers.csv_headers import check_header
    from farandole.ingest.sources.files import SourceFiles

    source = csv.source(path)
    _check_text(path, source.encoding)
    return check_header("rows", source, SourceFiles("rows", (path,)))


def separator_hint(found: Sequence[str]) -> str | None:
    """Return a sentence about a header that seems to be of another separator; None if it does not."""
    if len(found) != 1:
        return None
    other = next((mark for mark in _SEPARATORS if mark in found[0]), None)
    return None if other is None else f"its only column is {found[0][:60]!r}; if that are several, use --separator"


def read_texts(path: Path, csv: CsvFormat, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Read columns as text: their types are those of the model, not those of the file.

    Raises:
        DataError: A record has too many or too few fields, or is not text; names file and line.
    """
    from farandole.ingest.readers.byte_ranges import ByteRange

    for found in _reader(path, csv, columns).read(ByteRange(path)):
        if found.malformed:
            first = found.malformed[0]
            raise DataError(f"{first.position}: {first.reason} ({first.found or 'the record cannot be read'}); fix it")
        yield found.batch


def line_of_row(path: Path, csv: CsvFormat, row: int) -> int | None:
    """Return the number of the line at which a row begins, from 1; None: the file has no such row.

    Args:
        path: The file.
        csv: How it is read.
        row: The row, from 0.
    """
    from farandole.ingest.readers.byte_ranges import ByteRange

    found: int | None = _reader(path, csv, ()).find_line(ByteRange(path), row)
    return found


def _reader(path: Path, csv: CsvFormat, columns: Sequence[str]) -> Any:
    from farandole.ingest.readers.csv_reader import CsvReader

    header = tuple(read_header(path, csv))
    return CsvReader(csv.source(path), header, dict.fromkeys((name for name in columns if name in header), "string"))


def _check_text(path: Path, encoding: str) -> None:
    """Check that the beginning of a file is text of its encoding."""
    from farandole.ingest.readers.byte_ranges import count_lines, mismatched_bom, open_decompressed

    try:
        mark = mismatched_bom(path, encoding)
        with open_decompressed(path) as stream:
            data = stream.read(_CHECKED_BYTES)
    except (OSError, EOFError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read ({error}); write the file again") from error
    if mark:
        raise DataError(
            f"{path}: begins with the byte order mark of {mark}, yet is read as {encoding}; use --encoding {mark}"
        )
    if not data:
        raise DataError(f"{path}: is empty; write rows, below a line with the names of the columns")
    try:
        codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError as error:
        line = 1 + count_lines(data[: error.start])
        raise DataError(
            f"{path}: line {line}: is not {encoding} text (byte {data[error.start]:#04x}); name the file's encoding by"
            " --encoding, for example latin-1, cp1252 or utf-16"
        ) from error
