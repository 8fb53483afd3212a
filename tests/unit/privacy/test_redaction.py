"""Redaction of personal data inside texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import spacy
from hypothesis import given
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
