from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from farandole.storage import sqlite_uri
from farandole.tracking.store import TrackingStore
from farandole.tracking.store_check import find_problem


def _database(path: Path) -> TrackingStore:
    return TrackingStore(sqlite_uri(path), None)


def test_a_locked_database_is_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mlflow.db"
    connect = sqlite3.connect

    def connect_without_waiting(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return connect(*arguments, **{"timeout": 0, **options})

    owner = connect(path, isolation_level=None)
    owner.execute("CREATE TABLE runs (id)")
    owner.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(sqlite3, "connect", connect_without_waiting)
    assert find_problem(_database(path)) is None
    assert owner.in_transaction  # the lock was there during the check
    owner.close()


def test_a_damaged_database_is_unusable_also_if_its_path_says_locked(tmp_path: Path) -> None:
    path = tmp_path / "locked.db"
    path.write_bytes(b"not a database" * 100)
    problem = find_problem(_database(path))
    assert problem is not None
    assert problem.endswith("locked.db: file is not a database")


def test_the_folder_of_a_new_database_is_created(tmp_path: Path) -> None:
    assert find_problem(_database(tmp_path / "new" / "mlflow.db")) is None
    assert (tmp_path / "new").is_dir()


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("http://there-is-no-such-host.invalid:5000", "there is no host there-is-no-such-host.invalid"),
        ("http://[::1", "http://[::1: Invalid IPv6 URL"),
        ("oracel://localhost/mlflow", "oracel: there is no database of this kind"),
        ("sqlite:////proc/mlflow.db", "/proc/mlflow.db: unable to open database file"),
        ("sqlite:////dev/null/mlflow.db", "/dev/null: is not a folder"),
    ],
)
def test_a_store_that_can_never_answer_has_a_problem(uri: str, problem: str) -> None:
    found = find_problem(TrackingStore(uri, None))
    assert found is not None
    assert problem in found


def test_a_database_that_does_not_answer_now_may_answer_later() -> None:
    from sqlalchemy.exc import OperationalError

    with pytest.raises(OperationalError, match="refused"):
        find_problem(TrackingStore("postgresql://ada:s3cret@127.0.0.1:1/mlflow", None))
