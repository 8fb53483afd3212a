from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from farandole.spec import Schedule, home
from farandole.spec.base import expand_variables, non_default_fields
from farandole.storage import is_uri


def test_a_variable_is_replaced_wherever_it_stands() -> None:
    assert expand_variables("/a/${X}/b-${X}.csv", {"X": "data"}) == "/a/data/b-data.csv"


@pytest.mark.parametrize("environment", [{}, {"X": ""}], ids=["not set", "empty"])
def test_a_default_stands_in_for_a_variable_without_a_value(environment: dict[str, str]) -> None:
    assert expand_variables("${X:-/tmp}/a", environment) == "/tmp/a"


def test_a_default_may_be_empty_and_gives_way_to_a_value() -> None:
    assert expand_variables("a${X:-}", {}) == "a"
    assert expand_variables("${X:-/tmp}", {"X": "/data"}) == "/data"


def test_a_variable_without_value_and_default_is_an_error_that_says_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"variable DATA is not set; set it, or write \$\{DATA:-default\}"):
        expand_variables("${DATA}/a", {})


@pytest.mark.parametrize("text", ["$HOME/a", "{name}", "a$", "${}", "${1A}"])
def test_what_is_no_variable_stays(text: str) -> None:
    assert expand_variables(text, {"HOME": "/h", "1A": "x"}) == text


def test_home_is_what_the_environment_says_or_in_the_users_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", "/srv/farandole")
    assert home() == Path("/srv/farandole")
    monkeypatch.setenv("FARANDOLE_HOME", "")
    assert home() == Path.home() / ".farandole"


def test_the_variable_of_home_is_home_even_where_the_environment_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", "")
    assert expand_variables("${FARANDOLE_HOME}/x") == f"{home()}/x"


def test_the_variable_of_home_is_home_also_where_it_is_relative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", "relative")
    assert expand_variables("${FARANDOLE_HOME}/x") == f"{home()}/x"


@pytest.mark.parametrize(
    ("path", "remote"),
    [("s3://bucket/a", True), ("package://p/a.csv", True), ("/a/b", False), ("a.csv", False), ("c:/a", False)],
)
def test_remote_is_what_has_a_scheme(path: str, remote: bool) -> None:
    assert is_uri(path) is remote


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Schedule().warmup = 0.5


def test_changed_names_what_differs_from_the_default() -> None:
    assert non_default_fields(Schedule(name="linear", warmup=0.0), "name", "warmup", "final") == ["name"]
