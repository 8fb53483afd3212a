from __future__ import annotations

import pickle
import random
from collections.abc import Callable

import phonenumbers
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import luhn

from farandole.privacy import Detector, PiiFinding, redact

MIN_SHARE = 0.001


def found(values: list[str | None] | pa.Array, share: float = MIN_SHARE) -> list[tuple[str, int]]:
    detector = Detector()
    detector.add(pa.record_batch({"c": pa.array(values)}))
    return [(finding.kind, finding.count) for finding in detector.findings(share)]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("e-mail addresses", ["ada@example.org", "a.b+c@sub.example.co.uk", "write to <ada@example.org>, please"]),
        ("phone numbers", ["+49 170 1234567", "+1-212-555-0123", "(212) 555-0123", "212.555.0187", "0170/1234567"]),
        ("phone numbers", ["0049 30 901820", "+442071838750", "call +33 1 42 68 53 00 at noon", "089 / 123456-78"]),
        (
            "card numbers",
            ["4111 1111 1111 1111", "5500-0055-5555-5559", "371449635398431", "paid by 6011111111111117."],
        ),
        ("card numbers", ["30569309025904", "3530111333300000", "2223003122003222"]),
        (
            "bank accounts (IBAN)",
            ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "from FR1420041010050500013M02606"],
        ),
        ("IP addresses", ["192.168.1.20", "8.8.4.200", "2001:db8::ff00:42:8329", "fe80::1"]),
        ("national identity numbers", ["123-45-6789", "12345678Z", "X1234567L", "RSSMRA85T10A562S"]),
    ],
)
def test_personal_data_is_recognised(kind: str, values: list[str]) -> None:
    for value in values:
        assert found([value]) == [(kind, 1)], value
        assert redact(f"{value}") == redact(redact(value))
        assert f"[{kind}]" in redact(value)


@pytest.mark.parametrize(
    "values",
    [
        ["2013-01-31", "2024-02-29 23:59:59", "12:30:45", "20240229T1200"],
        ["1.5", "-3", "1e10", "12,345,678.90", "+1234567.25", "1234.567.890"],
        ["N14228", "EWR 12 31", "UA IAH", "B-747-400ER"],
        ["0012345678", "0000000012", "00000000-0000-0000-0000-000000000000"],
        ["550e8400-e29b-41d4-a716-446655440000", "d41d8cd98f00b204e9800998ecf8427e"],
        ["1.2.3.4", "10.11.12.13", "999.1.1.1"],
        ["@home", "a@b", "user@localhost", "5 @ 3.50"],
        ["4006381333931", "9780306406157"],  # EAN-13, ISBN-13
        ["DE00 3704 0044 0532 0130 00", "XX89370400440532013000", "AB12CDEF"],
        ["000-12-3456", "12345678A", "00000000000000", "4444 4444"],
        ["", " ", "\0", "é" * 40, "the quick brown fox"],
    ],
)
def test_other_values_are_left_alone(values: list[str]) -> None:
    for value in values:
        assert found([value]) == [], value
        assert redact(value) == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("card numbers", "room 12 4111 1111 1111 1111"),
        ("card numbers", "2024-05-06 4111 1111 1111 1111 12 3"),
        ("card numbers", "50 371449635398431"),
        ("bank accounts (IBAN)", "AB12 DE89370400440532013000"),
        ("bank accounts (IBAN)", "DE12 3456 GB29 NWBK 6016 1331 9268 19"),
    ],
)
def test_number_before_does_not_hide_personal_data(kind: str, value: str) -> None:
    assert found([value]) == [(kind, 1)]
    assert f"[{kind}]" in redact(value)


def test_series_of_numbers_are_not_card_numbers() -> None:
    series = _numbers(300, lambda source: " ".join(str(source.randrange(1000, 10_000)) for _ in range(60)))
    assert found(series) == []
    short = _numbers(300, lambda source: " ".join(str(source.randrange(1, 1000)) for _ in range(12)))
    assert found(short) == []


@given(st.text("0123456789 -", max_size=20), st.sampled_from(["4111 1111 1111 1111", "371449635398431"]))
def test_card_number_is_recognised_behind_any_numbers(before: str, card: str) -> None:
    assert f"{card}" not in redact(f"{before} {card}")
    assert found([f"{before} {card}"]) != []


def _numbers(count: int, draw: Callable[[random.Random], str]) -> list[str]:
    source = random.Random(7)
    return [draw(source) for _ in range(count)]


@pytest.mark.parametrize("prefix", ["4", "51", "62", "6011"])
def test_random_numbers_in_the_form_of_cards_are_not_reported(prefix: str) -> None:
    digits = 16 - len(prefix)
    values = _numbers(2000, lambda source: prefix + "".join(str(source.randrange(10)) for _ in range(digits)))
    assert found(values) == []
    assert found(pa.array([int(value) for value in values])) == []


def test_integers_can_be_card_numbers() -> None:
    cards = [4111111111111111, 5500005555555559, 371449635398431, None, 12]
    assert found(pa.array(cards * 50, pa.int64())) == [("card numbers", 150)]
    assert found(pa.array([1_700_000_000_000 + number for number in range(500)])) == []


@pytest.mark.parametrize(
    "number",
    ["CR05015202001026284066", "VA59001123000012345678", "EG380019000500000000263180002", "BE68 5390 0754 7034"],
)
def test_ibans_of_all_registered_countries_are_recognised(number: str) -> None:
    assert found([number]) == [("bank accounts (IBAN)", 1)]


def test_random_numbers_with_a_plus_are_not_phone_numbers() -> None:
    assert found(_numbers(1000, lambda source: f"+{source.randrange(10**9, 10**12)}")) == []


@pytest.mark.parametrize(
    "notation", [phonenumbers.PhoneNumberFormat.INTERNATIONAL, phonenumbers.PhoneNumberFormat.E164]
)
def test_phone_numbers_of_all_countries_are_recognised(notation: int) -> None:
    examples = [phonenumbers.example_number(region) for region in sorted(phonenumbers.SUPPORTED_REGIONS)]
    texts = [phonenumbers.format_number(example, notation) for example in examples if example is not None]
    missed = [text for text in texts if found([text]) != [("phone numbers", 1)]]
    assert len(texts) > 200
    assert [text for text in missed if sum(map(str.isdigit, text)) >= 8] == []
    assert len(missed) <= 3


def test_tax_code_with_a_wrong_check_letter_is_not_reported() -> None:
    assert found([f"RSSMRA85T10A562{letter}" for letter in "ABCDEFGHIJKLMNOPQRTUVWXYZ"]) == []


@given(st.text("0123456789", min_size=1, max_size=18))
def test_exactly_one_check_digit_is_valid(digits: str) -> None:
    assert [luhn.is_valid(digits + str(check)) for check in range(10)].count(True) == 1


@given(st.lists(st.text(max_size=40), max_size=20))
def test_arbitrary_text_is_handled(values: list[str]) -> None:
    for kind, count in found([*values, None]):
        assert 0 < count <= len(values), kind
    for value in values:
        redact(value)


def test_share_counts_only_present_values() -> None:
    values = ["a@example.org"] * 2 + ["x"] * 98 + [None] * 900
    assert found(values, 0.02) == [("e-mail addresses", 2)]
    assert found(values, 0.021) == []
    assert found([None, None], 0.0) == []


def test_counts_do_not_depend_on_batches() -> None:
    values = ["a@example.org", "x", "4111111111111111", None, "a@example.org"] * 20
    whole = Detector()
    whole.add(pa.record_batch({"c": pa.array(values)}))
    merged = Detector()
    for start in range(0, 100, 7):
        part = Detector()
        part.add(pa.record_batch({"c": pa.array(values[start : start + 7], pa.string())}))
        merged.merge(pickle.loads(pickle.dumps(part)))
    assert merged.findings(0) == whole.findings(0) == [PiiFinding("c", "e-mail addresses", 40, 0.5)]


def test_redaction_keeps_other_text() -> None:
    text = "The value 'x' of ada@example.org, card 4111 1111 1111 1111, is wrong"
    assert redact(text) == "The value 'x' of [e-mail addresses], card [card numbers], is wrong"


def test_phone_numbers_outside_their_numbering_plan_are_redacted_and_not_reported() -> None:
    assert redact("call +1 555 123 4567 today") == "call [phone numbers] today"
    assert found(["+1 555 123 4567"] * 10) == []
