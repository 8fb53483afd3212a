"""Recognises likely personal data by its form and, where there are some, by its check digits.

A kind is told in two steps. Values of the right form are *candidates*; those with right check digits are *confirmed*.
Random numbers of the right form pass a check of one digit in one of ten cases, so a kind counts as found only where
most candidates are confirmed. Only counts leave this module, never a value.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_MIN_CONFIRMED = 0.5
"""The share of candidates that must be confirmed."""
_CARD_NUMBERS = (10**13, 2**63 - 1)
"""Whole numbers out of this range are no card numbers."""
_SHORTEST = 6
"""Bytes of the shortest e-mail address; shorter texts are put aside at once. All other kinds are longer, but for
addresses like `::1`, which name nobody's machine."""


@dataclass(frozen=True)
class PiiKind:
    """One kind of personal data.

    Args:
        name: What it is called.
        pattern: Finds candidates in a text; in the common subset of RE2 (Arrow) and Python's `re`.
        confirm: Of what the pattern found: True, False, or None if it is no candidate after all.
        literal: A text that every candidate contains: most values are put aside by it at once.
    """

    name: str
    pattern: str
    confirm: Callable[[str], bool | None]
    literal: str = ""


@dataclass(frozen=True)
class PiiFinding:
    """A column that likely holds personal data.

    Args:
        column: The column.
        kind: Which.
        count: Rows with such a value.
        share: Their share of the rows that have a value at all.
    """

    column: str
    kind: str
    count: int
    share: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def __str__(self) -> str:
        return f"column {self.column}: {self.count:,} values ({self.share:.1%}) look like {self.kind}"


@dataclass
class _Counts:
    values: int = 0
    candidates: dict[str, int] = field(default_factory=dict)
    confirmed: dict[str, int] = field(default_factory=dict)


class Detector:
    """Counts, over any number of batches in any order."""

    def __init__(self) -> None:
        self._counts: dict[str, _Counts] = {}

    @staticmethod
    def examines(kind: pa.DataType) -> bool:
        """Whether columns of this type are examined: text, and whole numbers that a card number fits into."""
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_int64(kind))

    def add(self, batch: pa.RecordBatch) -> None:
        """Examine all values of all columns that can hold personal data."""
        for column, values in zip(batch.schema.names, batch.columns, strict=True):
            if self.examines(values.type):
                self._add(column, values)

    def merge(self, other: Detector) -> None:
        """Take in what another one counted."""
        for column, theirs in other._counts.items():
            ours = self._counts.setdefault(column, _Counts())
            ours.values += theirs.values
            for mine, more in ((ours.candidates, theirs.candidates), (ours.confirmed, theirs.confirmed)):
                for kind, count in more.items():
                    mine[kind] = mine.get(kind, 0) + count

    def findings(self, min_share: float) -> list[PiiFinding]:
        """What was found, by column: the most frequent kind of each.

        Args:
            min_share: The share of a column's values that must be of a kind.
        """
        found = []
        for column, counts in sorted(self._counts.items()):
            sure = [
                (count, kind)
                for kind, count in counts.confirmed.items()
                if count >= _MIN_CONFIRMED * counts.candidates[kind] and count >= min_share * counts.values
            ]
            if sure:
                count, kind = max(sure)
                found.append(PiiFinding(column, kind, count, count / counts.values))
        return found

    def _add(self, column: str, values: pa.Array) -> None:
        counts = self._counts.setdefault(column, _Counts())
        values = values.drop_null()
        counts.values += len(values)
        if pa.types.is_integer(values.type):
            low, high = _CARD_NUMBERS
            values = values.filter(pc.and_(pc.greater_equal(values, low), pc.less(values, high)))
            kinds: tuple[PiiKind, ...] = (CARD,)
        else:
            values = values.filter(pc.greater_equal(pc.binary_length(values), _SHORTEST))
            kinds = KINDS
        if len(values):
            # Each distinct value is looked at once, and by Python only if Arrow finds the form in it.
            counted = pc.value_counts(values.cast(pa.string()))
            for kind in kinds:
                _count(kind, counted, counts)


def redact(text: str) -> str:
    """A text with what looks like personal data replaced by its kind: `[e-mail addresses]`."""
    for kind in KINDS:
        for found in list(_found(kind, text)):
            if kind.confirm(found):
                text = text.replace(found, f"[{kind.name}]")
    return text


def _count(kind: PiiKind, counted: pa.StructArray, counts: _Counts) -> None:
    texts, rows = counted.field("values"), counted.field("counts")
    if kind.literal:
        has = pc.match_substring(texts, kind.literal)
        texts, rows = texts.filter(has), rows.filter(has)
    formed = pc.match_substring_regex(texts, kind.pattern)
    for text, number in zip(texts.filter(formed).to_pylist(), rows.filter(formed).to_pylist(), strict=True):
        told = [kind.confirm(found) for found in _found(kind, text)]
        if True in told or False in told:
            counts.candidates[kind.name] = counts.candidates.get(kind.name, 0) + number
            counts.confirmed[kind.name] = counts.confirmed.get(kind.name, 0) + number * (True in told)


def _found(kind: PiiKind, text: str) -> Iterator[str]:
    """What the pattern finds in a text: its first group, or all of it."""
    for match in re.finditer(kind.pattern, text):
        yield (match[1] if match.re.groups else match[0]).strip()


# What confirms candidates ------------------------------------------------------------------------------------------


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + place % 2)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


_ISSUERS = re.compile(
    r"4\d{15}(\d{3})?"  # Visa
    r"|(5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(0[0-5]|[68]\d)\d{11}"  # Diners Club
    r"|(6011|64[4-9]\d|65\d\d|35(2[89]|[3-8]\d))\d{12}"  # Discover, JCB
    r"|62\d{14,17}"  # UnionPay
)
"""The first digits of issuers and the lengths of their numbers. Visa's old 13 digits are left out: so long are EANs."""


def _card(text: str) -> bool | None:
    digits = re.sub(r"[ -]", "", text)
    return luhn(digits) and len(set(digits)) > 1 if _ISSUERS.fullmatch(digits) else None


_IBAN_LENGTHS = {
    15: "NO",
    16: "BE",
    18: "DK FI FO GL NL",
    19: "MK SI",
    20: "AT BA EE KZ LT LU XK",
    21: "CH CR HR LI LV",
    22: "BG BH DE GB GE IE ME RS",
    23: "AE GI IL IQ TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "PT",
    26: "IS TR",
    27: "FR GR IT MC MR SM",
    28: "AL AZ CY DO GT HU LB PL",
    29: "BR EG PS QA UA",
    30: "JO KW MU",
    31: "MT SC",
}
_IBAN_LENGTH = {country: length for length, countries in _IBAN_LENGTHS.items() for country in countries.split()}


def _iban(text: str) -> bool | None:
    compact = text.replace(" ", "")
    length = _IBAN_LENGTH.get(compact[:2])
    if length is None or len(compact) < length:
        return None
    number = compact[:length]
    return int("".join(str(int(sign, 36)) for sign in number[4:] + number[:4])) % 97 == 1


def _phone(text: str) -> bool | None:
    digits = re.sub(r"\D", "", text)
    if not 8 <= len(digits) <= 15 or len(set(digits)) < 3:
        return None
    # A number with zeros in front and one with decimals are no phone numbers.
    plain = re.fullmatch(r"00\d+|\+?\d+\.\d+", text.strip()) is not None
    return None if plain else True


def _address(text: str) -> bool | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # Four small numbers are a version as likely as an address.
    return address.version == 6 or any(part > 99 for part in address.packed)


_NIE = str.maketrans("XYZ", "012")


def _national_id(text: str) -> bool | None:
    if "-" in text and text[-1].isdigit():  # United States: area, group and serial number
        area, group, serial = text.split("-")
        return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"
    if len(text) == 16:  # Italy: the form alone is telling
        return True
    number, letter = text[:8].translate(_NIE), text[-1]  # Spain: the letter is the rest of a division by 23
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == letter


CARD = PiiKind("card numbers", r"(?:^|[^0-9])((?:[0-9][ -]?){13,18}[0-9])(?:$|[^0-9])", _card)
KINDS: tuple[PiiKind, ...] = (
    PiiKind(
        "e-mail addresses",
        r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}",
        lambda text: True,
        literal="@",
    ),
    PiiKind("bank accounts (IBAN)", r"(?:^|[^A-Za-z0-9])([A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30})", _iban),
    CARD,
    PiiKind(
        "phone numbers",
        r"((?:^|[\s(:])\+[1-9][0-9 ()./-]{6,18}[0-9]"  # international
        r"|^\s*00[1-9][0-9 ()./-]{6,18}[0-9]\s*$"
        r"|^\s*(?:1[ .-])?\(?[2-9][0-9]{2}\)?[ .-][ ]?[2-9][0-9]{2}[ .-][0-9]{4}\s*$"  # North America
        r"|^\s*\(?0[1-9][0-9]{1,4}\)?[ /-]{1,3}[1-9][0-9 -]{3,10}[0-9]\s*$)",  # national, with its leading zero
        _phone,
    ),
    PiiKind("IP addresses", r"^([0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})$", _address),
    PiiKind(
        "national identity numbers",
        r"^([0-9]{3}-[0-9]{2}-[0-9]{4}|[XYZ0-9][0-9]{7}-?[A-Z]"
        r"|[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z])$",
        _national_id,
    ),
)
"""What is looked for, in the order in which texts are redacted."""
