from __future__ import annotations

import pytest
from pydantic import ValidationError

from farandole.spec import Schedule
from farandole.spec.base import expand_variables, non_default_fields
from farandole.storage import home


def test_variable_is_replaced_anywhere_in_a_text() -> None:
    assert expand_variables("/a/${X}/b-${X}.csv", {"X": "data"}) == "/a/data/b-data.csv"


@pytest.mark.parametrize("environment", [{}, {"X": ""}], ids=["not set", "empty"])
def test_default_replaces_a_variable_without_a_value(environment: dict[str, str]) -> None:
    assert expand_variables("${X:-/tmp}/a", environment) == "/tmp/a"


def test_default_can_be_empty_and_yields_to_a_value() -> None:
    assert expand_variables("a${X:-}", {}) == "a"
    assert expand_variables("${X:-/tmp}", {"X": "/data"}) == "/data"


def test_variable_without_value_and_default_is_rejected_with_a_remedy() -> None:
    with pytest.raises(ValueError, match=r"variable DATA is not set; set it, or write \$\{DATA:-default\}"):
        expand_variables("${DATA}/a", {})


@pytest.mark.parametrize("text", ["$HOME/a", "{name}", "a$", "${}", "${1A}"])
def test_text_without_variables_is_unchanged(text: str) -> None:
    assert expand_variables(text, {"HOME": "/h", "1A": "x"}) == text


def test_home_variable_expands_to_home_if_the_environment_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", "")
    assert expand_variables("${FARANDOLE_HOME}/x") == f"{home()}/x"


def test_home_variable_expands_to_home_if_it_is_relative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", "relative")
    assert expand_variables("${FARANDOLE_HOME}/x") == f"{home()}/x"


def test_spec_is_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Schedule().warmup = 0.5  # type: ignore[misc]


def test_non_default_fields_are_named() -> None:
    assert non_default_fields(Schedule(name="linear", warmup=0.0), "name", "warmup", "final") == ["name"]
