"""Splits by time and by group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.guesses import guess_file, job_of, kinds_of, left_out_of, two_columns
from tests.support.odd_tables import write_table


def test_rows_in_the_order_of_time_are_split_by_it(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv",
        "when,x,y",
        lambda source, number: f"{np.datetime64('2024-01-01') + number},{two_columns(source, number)}",
    )
    found = guess_file(path, "x")
    assert found.split.time == "when"
    assert job_of(path, "x").data.split.time == "when"
    assert [feature.name for feature in found.features if feature.column == "when"] == ["when"]  # the trend ends


def test_rows_of_one_patient_stay_together(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv",
        "patient_id,x,y",
        lambda source, number: f"p{number % 60},{two_columns(source, number)}",
        600,
    )
    found = guess_file(path, "y")
    assert found.split.spec["by"] == ["patient_id"]
    assert "names the groups" in left_out_of(found)["patient_id"]
    assert job_of(path, "y").data.split.by == ("patient_id",)


def test_stations_are_a_category_and_not_groups(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "t.csv", "station_id,x,y", lambda source, number: f"{number % 60},{two_columns(source, number)}", 600
    )
    found = guess_file(path, "y")
    assert found.split.group is None
    assert kinds_of(found)["station_id"] == "categorical"


def test_few_rows_leave_more_to_test_with(tmp_path: Path) -> None:
    assert guess_file(write_table(tmp_path / "few.csv", "x,y", two_columns, 60), "y").split.spec["test"] == 0.2
    assert guess_file(write_table(tmp_path / "many.csv", "x,y", two_columns, 600), "y").split.spec["test"] == 0.1


@pytest.mark.parametrize(
    "name",
    ["spend_per_customer", "customer_age", "orders per client", "total_account", "sales_person_count", "patient2"],
)
def test_numbers_about_persons_are_features_and_not_groups(tmp_path: Path, name: str) -> None:
    path = write_table(
        tmp_path / "t.csv", f"{name},x,y", lambda source, n: f"{source.randint(1, 120)},{two_columns(source, n)}", 600
    )
    found = guess_file(path, "y")
    assert found.split.group is None
    assert kinds_of(found)[name] == "numeric"


@pytest.mark.parametrize("name", ["customer", "Patient ID", "userId", "id_member"])
def test_numbers_that_name_persons_are_groups(tmp_path: Path, name: str) -> None:
    path = write_table(
        tmp_path / "t.csv", f"{name},x,y", lambda source, n: f"{source.randint(1, 120)},{two_columns(source, n)}", 600
    )
    assert guess_file(path, "y").split.group == name
