"""CSV to rows, by RFC 4180 and no more lenient: a quote that is never closed would swallow rows without a word.

A piece of a file that is in order, as nearly all are, is parsed by Arrow as a whole. Whether it is follows from a few
scans of its bytes. Any other is taken apart record by record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from farandole.ingest.readers.byte_ranges import ByteRange, RecordChunk, cut_at_line_end, read_chunks
from farandole.ingest.readers.row_batch import MalformedRecord, RowBatch, convert_columns
from farandole.spec import CsvSource

_MARK = b"\xef\xbb\xbf"
_REPLACED = "\ufffd"
_LINE_ENDS = (10, 13)


@dataclass(frozen=True)
class CsvReader:
    """Reads one CSV source.

    Args:
        source: How it is written.
        header: The columns of the files, in order.
        types: The columns to read, and their SQL types.
    """

    source: CsvSource
    header: tuple[str, ...]
    types: dict[str, str]

    def read(self, part: ByteRange) -> Iterator[RowBatch]:
        """The rows of a part of a file."""
        for chunk in read_chunks(part, self._cut, self.source.encoding):
            yield self._rows(chunk, self._header_end(chunk.data) if chunk.is_first else 0)

    def texts(self, part: ByteRange) -> Iterator[pa.Table]:
        """The rows of a part as text, without those that have a wrong shape: what types are inferred from."""
        for chunk in read_chunks(part, self._cut, self.source.encoding):
            yield self._parsed(chunk, self._header_end(chunk.data) if chunk.is_first else 0)[0]

    def _rows(self, chunk: RecordChunk, begin: int) -> RowBatch:
        texts, places, malformed = self._parsed(chunk, begin)
        patterns = {"timestamp": self.source.timestamp_format, "date": self.source.date_format}
        batch, wrong = convert_columns(texts, self.types, patterns)
        if wrong:
            places = places or list(self._records(chunk.data, begin))
            for row, column in wrong.items():
                start, stop = places[row]
                found = texts.column(column)[row].as_py()
                reason = f"not {self.types[column]}"
                malformed.append(_malformed(chunk, start, stop, reason, column, found))
            good = np.ones(len(batch), bool)
            good[list(wrong)] = False
            batch = batch.filter(pa.array(good))
        return RowBatch(batch, malformed)

    def _parsed(
        self, chunk: RecordChunk, begin: int
    ) -> tuple[pa.Table, list[tuple[int, int]] | None, list[MalformedRecord]]:
        """The texts of all records of the right shape; their places, if they were looked for; and the others."""
        if self._in_order(chunk.data, begin):
            try:
                return self._parse(memoryview(chunk.data)[begin:]), None, []
            except pa.ArrowInvalid:
                pass  # a row has too few or too many fields: find out which
        malformed, places = [], []
        for start, stop in self._records(chunk.data, begin):
            reason, found = self._judge(chunk.data[start:stop])
            if reason:
                malformed.append(_malformed(chunk, start, stop, reason, None, found))
            else:
                places.append((start, stop))
        return self._parse(b"\n".join(chunk.data[start:stop] for start, stop in places)), places, malformed

    def _parse(self, data: bytes | memoryview) -> pa.Table:
        """The declared columns as text, null where missing.

        Raises:
            ArrowInvalid: A row has another number of fields.
        """
        strings = dict.fromkeys(self.types, pa.string())
        if not bytes(data[:1024]).strip(b"\r\n") and not bytes(data).strip(b"\r\n"):
            return pa.table({name: pa.array([], pa.string()) for name in self.types})
        return pacsv.read_csv(
            pa.py_buffer(data),
            read_options=pacsv.ReadOptions(
                use_threads=False, column_names=list(self.header), block_size=max(len(data) + 1, 64)
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=self.source.separator, quote_char=self.source.quote, newlines_in_values=self.source.multiline
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=strings,
                include_columns=list(self.types),
                null_values=["", *self.source.null_values],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                check_utf8=False,  # the whole piece has been decoded
            ),
        )

    def _in_order(self, data: bytes, begin: int) -> bool:
        """Whether all is text and every quote stands where RFC 4180 puts it."""
        if b"\0" in data or not self._decodes(data) or data.find(_MARK, begin) >= 0:
            return False
        if self.source.quote.encode() not in data:
            return True
        return self._quotes_in_order(np.frombuffer(data, np.uint8)[begin:])

    def _decodes(self, data: bytes) -> bool:
        if data.isascii():
            return True
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return False
        # In another encoding, what could not be decoded was replaced.
        return self.source.encoding == "utf-8" or _REPLACED not in text

    def _quotes_in_order(self, signs: np.ndarray) -> bool:
        quote, separator = ord(self.source.quote), ord(self.source.separator)
        places = np.flatnonzero(signs == quote)
        number = np.arange(len(places))
        if not self.source.multiline:  # a line end closes what is open: count the quotes of each line
            ends = np.flatnonzero((signs == _LINE_ENDS[0]) | (signs == _LINE_ENDS[1]))
            line = np.searchsorted(ends, places)
            first = np.flatnonzero(np.diff(line, prepend=-1))
            counts = np.diff(first, append=len(places))
            if (counts % 2).any():
                return False
            number = number - np.repeat(first, counts)
        elif len(places) % 2:
            return False
        bounds = np.array([separator, *_LINE_ENDS, quote], np.uint8)
        around = np.concatenate([[_LINE_ENDS[0]], signs, [_LINE_ENDS[0]]]).astype(np.uint8)
        opening, closing = places[number % 2 == 0], places[number % 2 == 1]
        return bool(np.isin(around[opening], bounds).all() and np.isin(around[closing + 2], bounds).all())

    def _records(self, data: bytes, begin: int) -> Iterator[tuple[int, int]]:
        """Start and stop of each record, without its line end; blank lines are none.

        A record that is not well-formed ends with its first line: so a quote that is never closed costs one line.
        """
        record = self._well_formed()
        while begin < len(data):
            match = record.match(data, begin) if self.source.multiline else None
            stop = match.end() if match else _line_stop(data, begin)
            if stop > begin:
                yield begin, stop
            begin = stop + (2 if data.startswith(b"\r\n", stop) else 1)

    def _judge(self, record: bytes) -> tuple[str, str]:
        """What is wrong with a record, and what was found; nothing if it has the right shape."""
        if b"\0" in record:
            return "NUL byte", ""
        if not self._decodes(record):
            return f"not {self.source.encoding} text", ""
        if record.startswith(_MARK):
            return "a byte order mark inside the file", ""
        if not self._well_formed().fullmatch(record):
            return "a quote out of place", ""
        fields = self._num_fields(record)
        if fields != len(self.header):
            return "wrong number of fields", f"{fields} fields where there are {len(self.header)} columns"
        return "", ""

    def _num_fields(self, record: bytes) -> int:
        """Of a well-formed record."""
        one_field, separator = re.compile(self._field()), self.source.separator.encode()
        number, place = 0, -1
        while place < len(record):
            match = one_field.match(record, place + 1)
            assert match is not None, "the empty text is a field too"
            number, place = number + 1, match.end()
            assert place == len(record) or record.startswith(separator, place)
        return number

    def _field(self) -> bytes:
        quote, separator = re.escape(self.source.quote).encode(), re.escape(self.source.separator).encode()
        broken = b"" if self.source.multiline else rb"\r\n"
        quoted = b"%b(?:[^%b%b]++|%b%b)*+%b" % (quote, quote, broken, quote, quote, quote)
        # Where rows are left out, a quote in a bare field may be the rest of a record whose first line was left out.
        inside = b"" if self.source.malformed == "fail" else quote
        return b"(?:%b|[^%b%b\\r\\n][^%b%b\\r\\n]*+|)" % (quoted, quote, separator, inside, separator)

    def _well_formed(self) -> re.Pattern[bytes]:
        """A whole record, up to its line end."""
        separator = re.escape(self.source.separator).encode()
        return re.compile(b"%b(?:%b%b)*+(?=[\\r\\n]|\\Z)" % (self._field(), separator, self._field()))

    def _header_end(self, data: bytes) -> int:
        """The place behind a byte order mark and, where there is one, the header."""
        begin = len(_MARK) if data.startswith(_MARK) else 0
        if not self.source.header:
            return begin
        _, stop = next(self._records(data, begin), (begin, begin))
        return stop + (2 if data.startswith(b"\r\n", stop) else 1)

    def _cut(self, data: bytes) -> int:
        if not self.source.multiline:
            return cut_at_line_end(data)
        quote = self.source.quote.encode()
        place = cut_at_line_end(data)
        # Behind an even number of quotes nothing is open, if all of them are in order.
        while place and data.count(quote, 0, place) % 2:
            place = data.rfind(b"\n", 0, place - 1) + 1
        return place if self._quotes_in_order(np.frombuffer(data, np.uint8)[:place]) else 0


def _malformed(
    chunk: RecordChunk, start: int, stop: int, reason: str, column: str | None = None, found: str = ""
) -> MalformedRecord:
    record = chunk.data[start:stop]
    return MalformedRecord(str(chunk.part.path), chunk.line(start), record, reason, column, found)


def _line_stop(data: bytes, begin: int) -> int:
    """The place of the next line end."""
    match = re.compile(rb"[\r\n]").search(data, begin)
    return match.start() if match else len(data)
