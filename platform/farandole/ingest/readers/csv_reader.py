"""CSV reader, exactly as strict as RFC 4180: otherwise a quote that is never closed would silently swallow rows.

A well-formed chunk, as nearly all are, is parsed by Arrow as a whole; a few scans of its bytes decide whether it is
well-formed. Any other chunk is split record by record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from farandole.ingest.readers.byte_ranges import (
    DAMAGED_BYTES,
    ByteRange,
    RecordChunk,
    cut_at_line_end,
    read_chunks,
)
from farandole.ingest.readers.row_batch import (
    MISPLACED_QUOTE,
    NUL_BYTE,
    WRONG_FIELD_COUNT,
    MalformedRecord,
    RowBatch,
    convert_columns,
    not_text,
)
from farandole.spec import CsvSource

_MARK = b"\xef\xbb\xbf"
_UNKNOWN = "\ufffd".encode()
"""Text that a record shows for bytes that could not be decoded."""
_LINE_ENDS = (10, 13)


@dataclass(frozen=True)
class CsvReader:
    """Reader of one CSV source.

    Args:
        source: The source: separator, quote, encoding and null values.
        header: The columns of the files, in order.
        types: The columns to read, and their SQL types.
        other_headers: The columns of the files that have others, or the same in another order.
    """

    source: CsvSource
    header: tuple[str, ...]
    types: dict[str, str]
    other_headers: dict[Path, tuple[str, ...]] = field(default_factory=dict)

    def read(self, byte_range: ByteRange) -> Iterator[RowBatch]:
        """Read the rows of a byte range."""
        for chunk in read_chunks(byte_range, self._find_cut, self.source.encoding):
            yield self._convert(chunk, self._header_end(chunk.data) if chunk.is_first else 0)

    def texts(self, byte_range: ByteRange) -> Iterator[pa.Table]:
        """Read the well-formed rows of a byte range as text, for the inference of types."""
        for chunk in read_chunks(byte_range, self._find_cut, self.source.encoding):
            yield self._parse(chunk, self._header_end(chunk.data) if chunk.is_first else 0)[0]

    def find_line(self, byte_range: ByteRange, row: int) -> int | None:
        """Return the number of the line at which a row of a byte range begins, from 1; None: there is no such row.

        Args:
            byte_range: The range.
            row: The row, from 0; rows that are not well-formed count.
        """
        for chunk in read_chunks(byte_range, self._find_cut, self.source.encoding):
            for start, _ in self._records(chunk.data, self._header_end(chunk.data) if chunk.is_first else 0):
                if not row:
                    return chunk.line_number(start)
                row -= 1
        return None

    def _convert(self, chunk: RecordChunk, begin: int) -> RowBatch:
        texts, spans, malformed = self._parse(chunk, begin)
        patterns = {"timestamp": self.source.timestamp_format, "date": self.source.date_format}
        batch, wrong = convert_columns(texts, self.types, patterns)
        if wrong:
            spans = spans or list(self._records(chunk.data, begin))
            for row, column in wrong.items():
                start, stop = spans[row]
                found = texts.column(column)[row].as_py()
                reason = f"not {self.types[column]}"
                malformed.append(_malformed(chunk, start, stop, reason, column, found))
            good = np.ones(len(batch), bool)
            good[list(wrong)] = False
            batch = batch.filter(pa.array(good))
        return RowBatch(batch, malformed)

    def _parse(
        self, chunk: RecordChunk, begin: int
    ) -> tuple[pa.Table, list[tuple[int, int]] | None, list[MalformedRecord]]:
        """Return the texts of the well-formed records, the spans of these records if known, and the other records."""
        header = self.other_headers.get(chunk.byte_range.path, self.header)
        if self._is_well_formed(chunk.data, begin):
            try:
                return self._parse_with_arrow(memoryview(chunk.data)[begin:], header), None, []
            except pa.ArrowInvalid:
                pass  # a row has too few or too many fields: find out which
        malformed, spans = [], []
        for start, stop in self._records(chunk.data, begin):
            reason, found = self._find_defect(chunk.data[start:stop], len(header))
            if reason:
                malformed.append(_malformed(chunk, start, stop, reason, None, found))
            else:
                spans.append((start, stop))
        good = b"\n".join(chunk.data[start:stop] for start, stop in spans)
        return self._parse_with_arrow(good, header), spans, malformed

    def _parse_with_arrow(self, data: bytes | memoryview, header: tuple[str, ...]) -> pa.Table:
        """Return the declared columns as text, null where missing.

        Arrow receives the columns' positions for names: in a header, names may be missing or repeated.

        Raises:
            ArrowInvalid: A row has another number of fields.
        """
        positions = {name: str(position) for position, name in enumerate(header)}
        chosen = [positions[name] for name in self.types]
        if not bytes(data[:1024]).strip(b"\r\n") and not bytes(data).strip(b"\r\n"):
            return pa.table({name: pa.array([], pa.string()) for name in self.types})
        table = pacsv.read_csv(
            pa.py_buffer(data),
            read_options=pacsv.ReadOptions(
                use_threads=False, column_names=[*map(str, range(len(header)))], block_size=max(len(data) + 1, 64)
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=self.source.separator, quote_char=self.source.quote, newlines_in_values=self.source.multiline
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(chosen, pa.string()),
                include_columns=chosen,
                null_values=["", *self.source.null_values],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                check_utf8=False,  # the whole chunk has been decoded
            ),
        )
        return table.rename_columns(list(self.types))

    def _is_well_formed(self, data: bytes, begin: int) -> bool:
        """Return whether all bytes are text and every quote is at a position that RFC 4180 allows."""
        if b"\0" in data or not _decodes(data) or data.find(_MARK, begin) >= 0:
            return False
        if self.source.quote.encode() not in data:
            return True
        return self._quotes_are_well_formed(np.frombuffer(data, np.uint8)[begin:])

    def _quotes_are_well_formed(self, chars: np.ndarray) -> bool:
        quote, separator = ord(self.source.quote), ord(self.source.separator)
        offsets = np.flatnonzero(chars == quote)
        number = np.arange(len(offsets))
        if not self.source.multiline:  # a line end closes an open quote: count the quotes of each line
            ends = np.flatnonzero((chars == _LINE_ENDS[0]) | (chars == _LINE_ENDS[1]))
            line = np.searchsorted(ends, offsets)
            first = np.flatnonzero(np.diff(line, prepend=-1))
            counts = np.diff(first, append=len(offsets))
            if (counts % 2).any():
                return False
            number = number - np.repeat(first, counts)
        elif len(offsets) % 2:
            return False
        bounds = np.array([separator, *_LINE_ENDS, quote], np.uint8)
        around = np.concatenate([[_LINE_ENDS[0]], chars, [_LINE_ENDS[0]]]).astype(np.uint8)
        opening, closing = offsets[number % 2 == 0], offsets[number % 2 == 1]
        return bool(np.isin(around[opening], bounds).all() and np.isin(around[closing + 2], bounds).all())

    def _records(self, data: bytes, begin: int) -> Iterator[tuple[int, int]]:
        """Yield start and stop of each record, without its line end; blank lines are skipped.

        A malformed record ends with its first line, so that a quote that is never closed costs one line.
        """
        record = self._record_pattern()
        while begin < len(data):
            match = record.match(data, begin) if self.source.multiline else None
            stop = match.end() if match else _line_stop(data, begin)
            if stop > begin:
                yield begin, stop
            begin = stop + (2 if data.startswith(b"\r\n", stop) else 1)

    def _find_defect(self, record: bytes, num_columns: int) -> tuple[str, str]:
        """Return why a record is malformed and the details; two empty strings if it is well-formed."""
        if b"\0" in record:
            return NUL_BYTE, ""
        if not _decodes(record):
            return not_text(self.source.encoding), ""
        if record.startswith(_MARK):
            return "a byte order mark inside the file", ""
        if not self._record_pattern().fullmatch(record):
            return MISPLACED_QUOTE, ""
        fields = self._num_fields(record)
        if fields != num_columns:
            return WRONG_FIELD_COUNT, f"{fields} fields where there are {num_columns} columns"
        return "", ""

    def _num_fields(self, record: bytes) -> int:
        """Count the fields of a record whose quotes are well-formed."""
        one_field, separator = re.compile(self._field()), self.source.separator.encode()
        number, offset = 0, -1
        while offset < len(record):
            match = one_field.match(record, offset + 1)
            assert match is not None, "the empty string is a field too"
            number, offset = number + 1, match.end()
            assert offset == len(record) or record.startswith(separator, offset)
        return number

    def _field(self) -> bytes:
        quote, separator = re.escape(self.source.quote).encode(), re.escape(self.source.separator).encode()
        broken = b"" if self.source.multiline else rb"\r\n"
        quoted = b"%b(?:[^%b%b]++|%b%b)*+%b" % (quote, quote, broken, quote, quote, quote)
        # If malformed records are dropped, a quote in a bare field may belong to a record whose first line was dropped.
        inside = b"" if self.source.malformed == "fail" else quote
        return b"(?:%b|[^%b%b\\r\\n][^%b%b\\r\\n]*+|)" % (quoted, quote, separator, inside, separator)

    def _record_pattern(self) -> re.Pattern[bytes]:
        """Return the pattern of a well-formed record, up to its line end."""
        separator = re.escape(self.source.separator).encode()
        return re.compile(b"%b(?:%b%b)*+(?=[\\r\\n]|\\Z)" % (self._field(), separator, self._field()))

    def _header_end(self, data: bytes) -> int:
        """Return the offset behind the byte order mark and the header, if there are any."""
        begin = len(_MARK) if data.startswith(_MARK) else 0
        if not self.source.header:
            return begin
        _, stop = next(self._records(data, begin), (begin, begin))
        return stop + (2 if data.startswith(b"\r\n", stop) else 1)

    def _find_cut(self, data: bytes) -> int:
        if not self.source.multiline:
            return cut_at_line_end(data)
        quote = self.source.quote.encode()
        offset = cut_at_line_end(data)
        # Behind an even number of quotes no field is open, if all quotes are well-formed.
        while offset and data.count(quote, 0, offset) % 2:
            offset = data.rfind(b"\n", 0, offset - 1) + 1
        return offset if self._quotes_are_well_formed(np.frombuffer(data, np.uint8)[:offset]) else 0


def _malformed(
    chunk: RecordChunk, start: int, stop: int, reason: str, column: str | None = None, found: str = ""
) -> MalformedRecord:
    record = chunk.data[start:stop].replace(DAMAGED_BYTES, _UNKNOWN)
    return MalformedRecord(str(chunk.byte_range.path), chunk.line_number(start), record, reason, column, found)


def _decodes(data: bytes) -> bool:
    """Return whether all bytes are text; in other encodings than UTF-8, those that are not have been marked."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _line_stop(data: bytes, begin: int) -> int:
    """Return the offset of the next line end."""
    match = re.compile(rb"[\r\n]").search(data, begin)
    return match.start() if match else len(data)
