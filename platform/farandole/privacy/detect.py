"""Detection of likely personal data by its form and, where they exist, by its check digits.

Detection has two steps. Values of the right form are *candidates*; candidates that pass the check of their kind are
*confirmed*. Random numbers of the right form pass a check with one digit in one of ten cases, so a kind counts as found
only if most of its candidates are confirmed. Only counts leave this module, never a value.

The checks are those of python-stdnum (check digits, IBANs, national identity numbers) and phonenumbers (numbering plans
of all countries). Both are imported when the first candidate is checked.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from farandole.privacy.scanning import Candidate, replace_spans, scan, scan_cards

_MIN_CONFIRMED = 0.5
"""The fraction of candidates that must be confirmed."""
_CARD_NUMBERS = (10**13, 2**63 - 1)
"""Integers outside this range are not card numbers."""
_MAX_PHONE_DIGITS = 15
_MIN_BYTES = 6
"""Length of the shortest e-mail address; shorter texts are skipped. All other kinds are longer, except addresses like
`::1`, which do not identify a machine."""


@dataclass(frozen=True)
class PiiKind:
    """One kind of personal data.

    Args:
        name: The name in findings and in redacted texts.
        pattern: Regular expression that finds candidates in a text; in the common subset of RE2 (Arrow) and `re`.
        confirm: Checks what the pattern found: True, False, or None if it is not a candidate after all.
        literal: A text that every candidate contains: rules out most values without the pattern.
        redact_unconfirmed: Whether `redact` also hides candidates that fail the check: a number with a typing error.
        extent: Returns how much of what the pattern found belongs to the candidate.
        is_card: Whether the candidates are windows of groups of digits; the pattern only finds the texts that have any.
    """

    name: str
    pattern: str
    confirm: Callable[[str], bool | None]
    literal: str = ""
    redact_unconfirmed: bool = False
    extent: Callable[[str], int] = len
    is_card: bool = False

    def candidates(self, text: str, pattern: str | None = None) -> Iterator[Candidate]:
        """Yield the candidates in a text.

        Args:
            text: The text.
            pattern: The pattern to find them by. Default: that of the kind.
        """
        if self.is_card:
            return scan_cards(text, self.confirm)
        return scan(pattern or self.pattern, text, self.confirm, self.extent)


@dataclass(frozen=True)
class PiiFinding:
    """A column that likely holds personal data.

    Args:
        column: The column.
        kind: The name of the kind.
        count: Rows with such a value.
        share: Their fraction of the rows that have a value.
    """

    column: str
    kind: str
    count: int
    share: float

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the finding as a sentence."""
        return f"column {self.column}: {self.count:,} values ({self.share:.1%}) look like {self.kind}"


@dataclass
class _Counts:
    values: int = 0
    candidates: dict[str, int] = field(default_factory=dict)
    confirmed: dict[str, int] = field(default_factory=dict)


class Detector:
    """Counts of likely personal data, over any number of batches in any order."""

    def __init__(self) -> None:
        self._counts: dict[str, _Counts] = {}

    @staticmethod
    def examines(arrow_type: pa.DataType) -> bool:
        """Return whether columns of this type are examined: text, and integers that a card number fits into."""
        return bool(
            pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type) or pa.types.is_int64(arrow_type)
        )

    def add(self, batch: pa.RecordBatch) -> None:
        """Examine all values of all columns that can hold personal data."""
        for column, values in zip(batch.schema.names, batch.columns, strict=True):
            if self.examines(values.type):
                self._add(column, values)

    def merge(self, other: Detector) -> None:
        """Add the counts of another detector."""
        for column, added in other._counts.items():
            counts = self._counts.setdefault(column, _Counts())
            counts.values += added.values
            for total, part in ((counts.candidates, added.candidates), (counts.confirmed, added.confirmed)):
                for kind, count in part.items():
                    total[kind] = total.get(kind, 0) + count

    def findings(self, min_share: float) -> list[PiiFinding]:
        """Return the most frequent kind of each column that holds personal data.

        Args:
            min_share: The fraction of a column's values that must be of a kind.
        """
        findings = []
        for column, counts in sorted(self._counts.items()):
            likely = [
                (count, kind)
                for kind, count in counts.confirmed.items()
                if count >= _MIN_CONFIRMED * counts.candidates[kind] and count >= min_share * counts.values
            ]
            if likely:
                count, kind = max(likely)
                findings.append(PiiFinding(column, kind, count, count / counts.values))
        return findings

    def _add(self, column: str, values: pa.Array) -> None:
        counts = self._counts.setdefault(column, _Counts())
        values = values.drop_null()
        counts.values += len(values)
        if pa.types.is_integer(values.type):
            low, high = _CARD_NUMBERS
            values = values.filter(pc.and_(pc.greater_equal(values, low), pc.less(values, high)))
            kinds: tuple[PiiKind, ...] = (CARD,)
        else:
            values = values.filter(pc.greater_equal(pc.binary_length(values), _MIN_BYTES))
            kinds = KINDS
        if len(values):
            # Each distinct value is examined once, and in Python only if Arrow finds the form in it.
            counted = pc.value_counts(values.cast(pa.string()))
            for kind in kinds:
                _count(kind, counted, counts)


def redact(text: str) -> str:
    """Replace likely personal data in a text by the name of its kind: `[e-mail addresses]`."""
    return replace_spans(
        text,
        [
            (found.start, found.end, f"[{kind.name}]")
            for kind in KINDS
            for found in kind.candidates(text)
            if found.is_valid or kind.redact_unconfirmed
        ],
    )


def _count(kind: PiiKind, counted: pa.StructArray, counts: _Counts) -> None:
    texts, rows = counted.field("values"), counted.field("counts")
    if kind.literal:
        contained = pc.match_substring(texts, kind.literal)
        texts, rows = texts.filter(contained), rows.filter(contained)
    matched = pc.match_substring_regex(texts, kind.pattern)
    for text, number in zip(texts.filter(matched).to_pylist(), rows.filter(matched).to_pylist(), strict=True):
        results = [found.is_valid for found in kind.candidates(text) if found.counts]
        if results:
            counts.candidates[kind.name] = counts.candidates.get(kind.name, 0) + number
            counts.confirmed[kind.name] = counts.confirmed.get(kind.name, 0) + number * (True in results)


# Checks of candidates ----------------------------------------------------------------------------------------------

_ISSUERS = re.compile(
    r"4\d{15}(\d{3})?"  # Visa
    r"|(5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(0[0-5]|[68]\d)\d{11}"  # Diners Club
    r"|(6011|64[4-9]\d|65\d\d|35(2[89]|[3-8]\d))\d{12}"  # Discover, JCB
    r"|62\d{14,17}"  # UnionPay
)
"""The first digits of issuers and the lengths of their numbers, without Visa's old 13 digits, the length of EANs."""


def _card(text: str) -> bool | None:
    from stdnum import luhn

    digits = re.sub(r"[ -]", "", text)
    return luhn.is_valid(digits) and len(set(digits)) > 1 if _ISSUERS.fullmatch(digits) else None


@cache
def iban_length(country: str) -> int | None:
    """Return the length of a country's IBANs; None if the registry has no such country."""
    from stdnum import numdb

    for _, properties in numdb.get("iban").info(country):
        if "bban" in properties:  # such as `4!a6!n`: 4 letters and 6 digits, after country and check digits
            return 4 + sum(int(length) for length in re.findall(r"(\d+)!", properties["bban"]))
    return None


def _iban(text: str) -> bool | None:
    from stdnum import iban

    compact = text.replace(" ", "")
    length = iban_length(compact[:2])
    if length is None or len(compact) < length:
        return None
    # National check digits inside the number are not needed to recognise an IBAN.
    return bool(iban.is_valid(compact[:length], check_country=False))


def _iban_extent(text: str) -> int:
    """Return the length of the IBAN at the start of a text that may continue with other words in capitals."""
    wanted = iban_length(text[:2])
    seen = 0
    for position, character in enumerate(text):
        seen += character != " "
        if seen == wanted:
            return position + 1
    return len(text)


def _phone_extent(text: str) -> int:
    """Return the length of the phone number at the start of a text that may continue with other numbers."""
    while sum(map(str.isdigit, text)) > _MAX_PHONE_DIGITS and (last := re.search(r"[ ()./-]+[0-9]+$", text)):
        text = text[: last.start()]
    return len(text)


def _phone(text: str) -> bool | None:
    import phonenumbers

    text = text.lstrip(" \t\r\n(:")
    digits = re.sub(r"\D", "", text)
    if not 8 <= len(digits) <= _MAX_PHONE_DIGITS or len(set(digits)) < 3:
        return None
    if re.fullmatch(r"00\d+|\+?\d+\.\d+", text) is not None:  # a number with leading zeros, or with decimals
        return None
    international = re.sub(r"^00", "+", text)
    if not international.startswith("+"):
        return True  # a national number: its country, and with it its numbering plan, is unknown
    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(international)))
    except phonenumbers.NumberParseException:
        return False


def _ip_address(text: str) -> bool | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # Four small numbers are as likely a version as an address.
    return address.version == 6 or any(part > 99 for part in address.packed)


def _national_id(text: str) -> bool | None:
    from stdnum.es import dni, nie
    from stdnum.it import codicefiscale
    from stdnum.us import ssn

    if "-" in text and text[-1].isdigit():
        return bool(ssn.is_valid(text))
    if len(text) == 16:
        return bool(codicefiscale.is_valid(text))
    return bool(dni.is_valid(text) or nie.is_valid(text))


EMAIL = PiiKind(
    "e-mail addresses",
    r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}",
    lambda text: True,
    literal="@",
)
IBAN = PiiKind(
    "bank accounts (IBAN)", r"(?:^|[^A-Za-z0-9])([A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30})", _iban, extent=_iban_extent
)
CARD = PiiKind("card numbers", r"(?:^|[^0-9])((?:[0-9][ -]?){13,18}[0-9])(?:$|[^0-9])", _card, is_card=True)
PHONE = PiiKind(
    "phone numbers",
    r"((?:^|[\s(:])\+[1-9][0-9 ()./-]{6,18}[0-9]"  # international
    r"|^\s*00[1-9][0-9 ()./-]{6,18}[0-9]\s*$"
    r"|^\s*(?:1[ .-])?\(?[2-9][0-9]{2}\)?[ .-][ ]?[2-9][0-9]{2}[ .-][0-9]{4}\s*$"  # North America
    r"|^\s*\(?0[1-9][0-9]{1,4}\)?[ /-]{1,3}[1-9][0-9 -]{3,10}[0-9]\s*$)",  # national, with its leading zero
    _phone,
    redact_unconfirmed=True,
    extent=_phone_extent,
)
IP_ADDRESS = PiiKind(
    "IP addresses", r"^([0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})$", _ip_address
)
NATIONAL_ID = PiiKind(
    "national identity numbers",
    r"^([0-9]{3}-[0-9]{2}-[0-9]{4}|[XYZ0-9][0-9]{7}-?[A-Z]"
    r"|[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z])$",
    _national_id,
)
KINDS: tuple[PiiKind, ...] = (EMAIL, IBAN, CARD, PHONE, IP_ADDRESS, NATIONAL_ID)
"""The kinds that are detected, in the order in which texts are redacted."""
