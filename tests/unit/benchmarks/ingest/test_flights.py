from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.ingest.flights import flights_job, write_flights


def test_repetitions_only_differ_in_their_year(tmp_path: Path) -> None:
    path = tmp_path / "flights.csv"
    write_flights(path, 3, rows=500)
    rows = pd.read_csv(path)
    assert len(rows) == 1500
    assert not rows.duplicated().any()
    parts = [part.reset_index(drop=True) for _, part in rows.groupby("year")]
    assert [part["year"].unique().tolist() for part in parts] == [[2013], [2014], [2015]]
    for later, part in enumerate(parts):
        assert part.drop(columns=["year", "time_hour"]).equals(parts[0].drop(columns=["year", "time_hour"]))
        assert (part["time_hour"].str[:4].astype(int) - parts[0]["time_hour"].str[:4].astype(int) == later).all()


def test_job_is_valid_and_reads_the_file(tmp_path: Path) -> None:
    job = flights_job(tmp_path / "flights.csv", tmp_path / "dataset", "1g")
    assert job.data.sources["flights"].path == str(tmp_path / "flights.csv")
    assert job.data.label is not None
