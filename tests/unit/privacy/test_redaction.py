"""Redaction of personal data inside texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import spacy
from hypothesis import assume, given
from hypothesis import strategies as st

from farandole.errors import DataError
from farandole.privacy.redaction import Redactor, recogniser_version
from farandole.spec import Redact


def redact(*texts: str | None, **fields: Any) -> list[str | None]:
    redactor = Redactor(Redact.model_validate({"policy": "redact", **fields}), "comment")
    found: list[str | None] = redactor.redact(pa.array(texts, pa.string())).to_pylist()
    return found


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Write to ada.l@example.org, please.", "Write to [e-mail], please."),
        ("a@example.com;b@example.co.uk", "[e-mail];[e-mail]"),
        ("card 4111 1111 1111 1111 expires 12/30", "card [card] expires 12/30"),
        ("card 4111-1111-1111-1112 (a typing error)", "card [card] (a typing error)"),
        ("pay to DE89 3704 0044 0532 0130 00 BY FRIDAY", "pay to [IBAN] BY FRIDAY"),
        ("IBAN: GB29NWBK60161331926819.", "IBAN: [IBAN]."),
        ("Call +33 6 12 34 56 78 or (212) 555-0187 today", "Call [phone] or [phone] today"),
        ("call 030 90 12 34 56, not before nine", "call [phone], not before nine"),
        ("0044 20 7946 0958 rings", "[phone] rings"),
        ("from 192.168.1.14 at noon", "from [IP address] at noon"),
        ("SSN 536-90-4399, twice 536-90-4399", "SSN [national ID], twice [national ID]"),
        ("pay 50 4111111111111111 now", "pay 50 [card] now"),
        ("room 12 4111 1111 1111 1111", "room 12 [card]"),
        ("on 2024-05-06 4111 1111 1111 1111", "on 2024-05-06 [card]"),
        ("4111 1111 1111 1111 12 2024-05-06", "[card] 12 2024-05-06"),
        ("order_4111111111111111_paid", "order_[card]_paid"),
        ("é4111111111111111", "é[card]"),
        ("IBAN AB12 DE89370400440532013000", "IBAN AB12 [IBAN]"),
        ("+33 6 12 34 56 78 4111111111111111", "[phone] [card]"),
        ("+1 212 555 0187 4111 1111 1111 1111", "[card]"),
        ("+4917012345678 12345678", "[phone] 12345678"),
        ("DE89 3704 0044 0532 0130 00 GB29 NWBK 6016 1331 9268 19", "[IBAN] [IBAN]"),
    ],
)
def test_findings_become_tokens_and_the_rest_stays(text: str, redacted: str) -> None:
    assert redact(text) == [redacted]


@pytest.mark.parametrize(
    "text",
    [
        "Released 1.2.3.4 on 2013-01-05 at 12:30:45, order 1234567, price 1,299.00 EUR.",
        "chapter 4, pages 100-120, 3.14159265358979",
        "ISBN 978-3-16-148410-0",
        "",
        "Ünïcode 日本語 — nothing to see",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert redact(text) == [text]


def test_nulls_and_repeated_values_keep_their_rows() -> None:
    assert redact("x@y.org", None, "plain", "x@y.org") == ["[e-mail]", None, "plain", "[e-mail]"]


def test_only_the_chosen_kinds_are_replaced() -> None:
    assert redact("x@y.org +33 6 12 34 56 78", kinds=["phone"]) == ["x@y.org [phone]"]


def test_region_adds_numbers_without_the_usual_grouping() -> None:
    assert redact("ring 2125550187 now", kinds=["phone"]) == ["ring 2125550187 now"]
    assert redact("ring 2128625010 now", kinds=["phone"], phone_regions=["US"]) == ["ring [phone] now"]


@given(
    st.lists(st.text(st.characters(exclude_categories=["Nd", "Cs"], exclude_characters="@"), max_size=30), max_size=5)
)
def test_text_without_digits_and_at_signs_is_never_changed(texts: list[str]) -> None:
    assert redact(*texts) == texts


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.sampled_from([" ", ", ", "(", "\n"]))
def test_address_is_found_behind_any_text(before: str, gap: str) -> None:
    (redacted,) = redact(f"{before}{gap}ada@example.org")
    assert redacted is not None
    assert "ada@example.org" not in redacted


_CARDS = ["4111 1111 1111 1111", "5500-0055-5555-5559", "371449635398431", "3056 930902 5904", "6011111111111117"]
_IBANS = ["DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "FR1420041010050500013M02606"]
_NUMBERS = st.text("0123456789 -.", max_size=60) | st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(_NUMBERS, st.sampled_from([" ", "-", "\n", "(", "é", "_"]), st.sampled_from(_CARDS), _NUMBERS)
def test_card_number_is_found_between_any_numbers(before: str, gap: str, card: str, after: str) -> None:
    (redacted,) = redact(f"{before}{gap}{card}{gap}{after}")
    assume(card[4:] not in before and card[4:] not in after)
    assert redacted is not None
    assert card[4:] not in redacted


@given(st.text("ABDEGR0123456789 ", max_size=60), st.sampled_from(_IBANS))
def test_iban_is_found_behind_any_capitals(before: str, number: str) -> None:
    (redacted,) = redact(f"{before} {number}")
    assume(number[-8:] not in before)
    assert redacted is not None
    assert number[-8:] not in redacted


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a small spaCy pipeline that knows two names by rules."""
    language = spacy.blank("en")
    ruler: Any = language.add_pipe("entity_ruler")
    ruler.add_patterns(
        [
            {"label": "PERSON", "pattern": "Ada Lovelace"},
            {"label": "GPE", "pattern": "London"},
        ]
    )
    folder = tmp_path_factory.mktemp("pipeline")
    language.to_disk(folder)
    return folder


def test_names_of_people_become_tokens(pipeline: Path) -> None:
    texts = redact("Ada Lovelace <ada@example.org> moved to London", "Ada Lovelace", names=str(pipeline))
    assert texts == ["[name] <[e-mail]> moved to London", "[name]"]


def test_pipeline_that_is_not_installed_is_reported() -> None:
    with pytest.raises(DataError, match=r"columns\.comment\.names: spaCy cannot load the pipeline no_such_pipeline"):
        redact("x", names="no_such_pipeline")


def test_pipeline_without_a_recogniser_is_reported(tmp_path: Path) -> None:
    spacy.blank("en").to_disk(tmp_path)
    with pytest.raises(DataError, match="recognises no names"):
        redact("x", names=str(tmp_path))


def test_version_of_a_pipeline_follows_from_its_content(pipeline: Path, tmp_path: Path) -> None:
    spacy.blank("de").to_disk(tmp_path)
    first = recogniser_version(str(tmp_path))
    assert first == recogniser_version(str(tmp_path)) != recogniser_version(str(pipeline))
    assert recogniser_version("no_such_pipeline") == "missing"
