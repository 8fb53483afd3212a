from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from farandole.backends.records import _MIGRATIONS, JobDatabase, JobRecord
from farandole.errors import SpecError, UnavailableError
from farandole.jobdir.foreground import foreground_job
from tests.support.queued import shell_job

_ADD_JOBS = """
import sys
from pathlib import Path
from farandole.backends.records import JobDatabase, JobRecord
for number in range(20):
    JobDatabase(Path(sys.argv[1])).remember(JobRecord(f"{sys.argv[2]}-{number}", "job", "local"))
"""


def test_jobs_of_all_backends_are_found_again(tmp_path: Path) -> None:
    database = JobDatabase(tmp_path)
    location = {"context": "lab", "namespace": "people"}
    database.remember(JobRecord("flights-1", "flights", "kubernetes", location))
    database.remember(JobRecord("flights-2", "flights", "local"))
    database.remember(JobRecord("flights-2", "flights", "hosts"))  # already recorded
    found = database.find("flights-1")
    assert (found.backend, found.location, found.name) == ("kubernetes", location, "flights")
    assert found.submitted_at.endswith("+00:00")
    assert [record.id for record in database.all()] == database.ids() == ["flights-2", "flights-1"]
    assert database.locations() == [("kubernetes", location), ("local", {})]


def test_unknown_id_is_reported_with_the_closest_match(tmp_path: Path) -> None:
    database = JobDatabase(tmp_path)
    database.remember(JobRecord("flights-1", "flights", "local"))
    with pytest.raises(SpecError, match=r"flihgts-1: no job with this id .* here; did you mean flights-1\?"):
        database.find("flihgts-1")
    (tmp_path / "jobs" / "taxi-1").mkdir(parents=True)
    with pytest.raises(SpecError, match=r"taxi-1: .*; its folder .*taxi-1 does not say how it was started"):
        database.find("taxi-1")


def test_job_in_the_foreground_is_suggested_as_well(farandole_home: Path) -> None:
    with foreground_job(shell_job(), lambda event: None) as here:
        pass
    with pytest.raises(SpecError, match=rf"did you mean {here.directory.name}\?"):
        JobDatabase(farandole_home).find(here.directory.name[:-1])


def test_concurrent_processes_create_and_fill_one_database(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", _ADD_JOBS, str(tmp_path), str(number)]) for number in range(4)]
    assert [process.wait() for process in writers] == [0] * 4
    assert len(JobDatabase(tmp_path).ids()) == 80
    assert (tmp_path / "jobs.db").stat().st_mode & 0o777 == 0o600


def test_database_of_the_first_version_is_migrated_and_keeps_its_jobs(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "jobs.db") as db:
        db.executescript(f"{_MIGRATIONS[0]}; PRAGMA user_version = 1")
        db.execute("INSERT INTO jobs (id, name, backend, place, submitted_at) VALUES ('a', 'a', 'local', '{}', '')")
    database = JobDatabase(tmp_path)
    assert database.ids() == ["a"]
    with database.reading() as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == len(_MIGRATIONS)
        assert "parent" in [row["name"] for row in db.execute("PRAGMA table_info(queue)")]


def test_database_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    JobDatabase(tmp_path).ids()
    with sqlite3.connect(tmp_path / "jobs.db") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(UnavailableError, match=r"jobs\.db: has version 99 .*, and this farandole knows 2;"):
        JobDatabase(tmp_path).ids()


def test_file_that_is_not_a_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_text("these are words\n" * 100)
    with pytest.raises(UnavailableError, match=r"jobs\.db: cannot be used \(file is not a database\); make sure"):
        JobDatabase(tmp_path).ids()


def test_exception_rolls_a_transaction_back(tmp_path: Path) -> None:
    database = JobDatabase(tmp_path)
    database.remember(JobRecord("flights-1", "flights", "local"))
    with pytest.raises(sqlite3.IntegrityError):
        _break_a_constraint(database)
    assert database.find("flights-1").name == "flights"


def _break_a_constraint(database: JobDatabase) -> None:
    with database.transaction() as db:
        db.execute("UPDATE jobs SET name = 'other'")
        db.execute("UPDATE jobs SET place = 'no JSON'")
