"""Selection of cases and systems."""

from __future__ import annotations

import sys

import pytest

from benchmarks.selection import select_names, select_systems
from farandole.errors import SpecError


def test_without_a_request_all_names_are_selected_in_their_order() -> None:
    assert select_names("--case", (), {"table": 1, "images": 2}) == ["table", "images"]
    assert select_names("--case", ["images"], {"table": 1, "images": 2}) == ["images"]


@pytest.mark.parametrize(
    ("name", "hint"), [("tabel", r"did you mean table\?"), ("zzz", r"choose among table, images$")]
)
def test_unknown_name_is_refused_with_a_remedy(name: str, hint: str) -> None:
    with pytest.raises(SpecError, match=rf"^--case: {name}: unknown; {hint}"):
        select_names("--case", [name], ("table", "images"))


def test_requested_systems_keep_the_order_in_which_they_are_known() -> None:
    peers = {"streaming": "module_that_does_not_exist"}
    assert select_systems(["b", "a"], ["a", "b"], peers, sys.executable, lambda event: None) == ["a", "b"]
    messages: list[str] = []
    found = select_systems([], ["a"], peers, sys.executable, lambda event: messages.append(str(event)))
    assert found == ["a"]
    assert messages == [f"not installed in {sys.executable}, left out: streaming"]
