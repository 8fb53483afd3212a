"""`farandole predict`, on this machine and on Spark."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.bundles import ROWS, write_small_bundle


def predict(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "farandole", "predict", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.slow(seconds=25)
def test_spark_and_this_machine_give_the_same_predictions(tmp_path: Path) -> None:
    bundle, rows = write_small_bundle(tmp_path / "bundle"), tmp_path / "rows.parquet"
    pq.write_table(pa.table({**ROWS, "id": range(6)}), rows, row_group_size=2)
    here = predict(bundle, rows, rows, "-o", tmp_path / "here.parquet", "--keep", "id", "--json")
    assert here.returncode == 0, here.stderr
    assert json.loads(here.stdout)["rows"] == 12
    there = predict(bundle, rows, rows, "-o", tmp_path / "there", "--keep", "id", "--json", "--master", "local[1]")
    assert there.returncode == 0, there.stderr
    assert json.loads(there.stdout)["rows"] == 12
    files = sorted((tmp_path / "there").glob("part-*.parquet"))
    assert len(files) == 2
    found = pa.concat_tables([pq.read_table(file) for file in files])
    assert found.equals(pq.read_table(tmp_path / "here.parquet"))


@pytest.mark.slow(seconds=15)
def test_a_wrong_row_ends_the_command_with_code_2(tmp_path: Path) -> None:
    bundle, rows = write_small_bundle(tmp_path / "bundle"), tmp_path / "rows.csv"
    rows.write_text("size,colour\n1,red\nx,blue\n")
    failed = predict(bundle, rows, "-o", tmp_path / "out.csv")
    assert failed.returncode == 2
    assert "rows.csv: line 3: column size: 'x' is not double" in failed.stderr
    assert "Traceback" not in failed.stderr
    done = predict(bundle, rows, "-o", tmp_path / "out.csv", "--on-error", "null")
    assert done.returncode == 0
    assert "1 rows have a wrong value and no prediction" in done.stdout
