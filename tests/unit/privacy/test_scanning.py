"""Search of a text for candidates, also beside and inside of each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farandole.privacy.scanning import Candidate, replace_spans, scan, scan_cards


def _even(text: str) -> bool | None:
    """Accept texts that end in an even digit, and reject those that begin with 9."""
    return None if text.startswith("9") else int(text[-1]) % 2 == 0


def test_rejected_candidate_is_searched_again_from_its_second_character() -> None:
    found = list(scan(r"[0-9]{2,3}", "9124 52", _even))
    assert found == [Candidate(1, 4, True), Candidate(5, 7, True)]


def test_invalid_candidates_may_overlap_and_valid_ones_not() -> None:
    assert list(scan(r"[0-9]{2}", "13524", _even)) == [
        Candidate(0, 2, False),
        Candidate(1, 3, False),
        Candidate(2, 4, True),
    ]


def test_extent_decides_where_a_candidate_ends() -> None:
    assert list(scan(r"([0-9 ]+)", " 12 34", _even, extent=lambda text: 2)) == [
        Candidate(1, 3, True),
        Candidate(4, 6, True),
    ]


def test_windows_of_cards_begin_and_end_with_a_group() -> None:
    found = list(scan_cards("12 1234567 1234567 34", lambda text: True))
    assert [(each.start, each.end) for each in found] == [(0, 18), (0, 21), (3, 18), (3, 21)]
    assert [each.counts for each in found] == [False, True, False, False]


@pytest.mark.parametrize(
    ("spans", "replaced"),
    [
        ([(0, 2, "[a]"), (4, 6, "[b]")], "[a]cd[b]"),
        ([(0, 2, "[a]"), (2, 6, "[b]")], "[a][b]"),
        ([(2, 4, "[a]"), (3, 6, "[b]")], "ab[a]"),
        ([(0, 2, "[a]"), (4, 6, "[b]"), (1, 5, "[c]")], "[a]"),
    ],
)
def test_overlapping_parts_become_one_token(spans: list[tuple[int, int, str]], replaced: str) -> None:
    assert replace_spans("abcdef", spans) == replaced


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=8))
def test_nothing_of_a_part_stays_and_all_else_does(places: list[tuple[int, int]]) -> None:
    text = "abcdefghijklmnopqrstuvwxyz0123456789ABCD"
    covered = {index for start, length in places for index in range(start, start + length)}
    replaced = replace_spans(text, [(start, start + length, "*") for start, length in places])
    assert replaced.replace("*", "") == "".join(sign for index, sign in enumerate(text) if index not in covered)
