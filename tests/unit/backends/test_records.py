from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from farandole.backends.records import JobDatabase, JobRecord
from farandole.errors import SpecError, UnavailableError

_ADDS = """
import sys
from pathlib import Path
from farandole.backends.records import Record, Records
for number in range(20):
    Records(Path(sys.argv[1])).remember(Record(f"{sys.argv[2]}-{number}", "job", "local"))
"""


def test_jobs_of_all_backends_are_found_again(tmp_path: Path) -> None:
    records = JobDatabase(tmp_path)
    there = {"context": "lab", "namespace": "people"}
    records.remember(JobRecord("flights-1", "flights", "kubernetes", there))
    records.remember(JobRecord("flights-2", "flights", "local"))
    records.remember(JobRecord("flights-2", "flights", "hosts"))  # it is known
    found = records.find("flights-1")
    assert (found.backend, found.place, found.name) == ("kubernetes", there, "flights")
    assert found.submitted_at.endswith("+00:00")
    assert [record.id for record in records.all()] == records.ids() == ["flights-2", "flights-1"]
    assert records.places() == [("kubernetes", there), ("local", {})]


def test_an_id_that_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    records = JobDatabase(tmp_path)
    records.remember(JobRecord("flights-1", "flights", "local"))
    with pytest.raises(SpecError, match=r"flihgts-1: no job of this id .* here; did you mean flights-1\?"):
        records.find("flihgts-1")
    (tmp_path / "jobs" / "taxi-1").mkdir(parents=True)
    with pytest.raises(SpecError, match=r"taxi-1: .*; it was started in the foreground: its folder .*taxi-1 tells all"):
        records.find("taxi-1")


def test_many_processes_make_and_fill_one_database(tmp_path: Path) -> None:
    adding = [subprocess.Popen([sys.executable, "-c", _ADDS, str(tmp_path), str(number)]) for number in range(4)]
    assert [process.wait() for process in adding] == [0] * 4
    assert len(JobDatabase(tmp_path).ids()) == 80
    assert (tmp_path / "jobs.db").stat().st_mode & 0o777 == 0o600


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    JobDatabase(tmp_path).ids()
    with sqlite3.connect(tmp_path / "jobs.db") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(UnavailableError, match=r"jobs\.db: has version 99 .*, and this farandole knows 1;"):
        JobDatabase(tmp_path).ids()


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_text("these are words\n" * 100)
    with pytest.raises(UnavailableError, match=r"jobs\.db: cannot be used \(file is not a database\); free"):
        JobDatabase(tmp_path).ids()


def test_an_error_takes_a_transaction_back(tmp_path: Path) -> None:
    records = JobDatabase(tmp_path)
    records.remember(JobRecord("flights-1", "flights", "local"))
    with pytest.raises(sqlite3.IntegrityError):
        _spoil(records)
    assert records.find("flights-1").name == "flights"


def _spoil(records: JobDatabase) -> None:
    with records.transaction() as db:
        db.execute("UPDATE jobs SET name = 'other'")
        db.execute("UPDATE jobs SET place = 'no JSON'")
