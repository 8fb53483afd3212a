from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from farandole.bundle import open_bundle
from farandole.errors import DataError
from farandole.serving.score_files import FilePart
from farandole.serving.scoring import ScoringOptions
from farandole.serving.spark_scoring import ScoringTask, score_on_spark, score_task
from tests.support.bundles import ROWS, write_small_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_small_bundle(tmp_path / "bundle")


def test_a_task_scores_its_part_of_a_file(tmp_path: Path, bundle: Path) -> None:
    pq.write_table(pa.table(ROWS), tmp_path / "rows.parquet", row_group_size=2)
    part = FilePart(tmp_path / "rows.parquet", (1,), 2)
    task = ScoringTask(str(bundle), part, str(tmp_path / "part.parquet"), ScoringOptions(keep=("size",)))
    assert json.loads(score_task(task))["rows"] == 2
    found = pq.read_table(tmp_path / "part.parquet")
    assert found.column("size").to_pylist() == ROWS["size"][2:4]
    wanted = open_bundle(bundle).predictor().predict(ROWS)["probability"][2:4]
    assert found.column("probability").to_pylist() == wanted.tolist()


def test_a_wrong_row_is_named_by_its_position_in_the_file(tmp_path: Path, bundle: Path) -> None:
    rows = pa.table({"size": ["1", "2", "3", "four"], "colour": ["red"] * 4})
    pq.write_table(rows, tmp_path / "rows.parquet", row_group_size=2)
    part = FilePart(tmp_path / "rows.parquet", (1,), 2)
    task = ScoringTask(str(bundle), part, str(tmp_path / "part.parquet"), ScoringOptions())
    with pytest.raises(DataError, match=r"rows\.parquet: row 4: column size: 'four' is not double"):
        score_task(task)


def test_an_output_that_exists_is_refused_before_spark_starts(tmp_path: Path, bundle: Path) -> None:
    pq.write_table(pa.table(ROWS), tmp_path / "rows.parquet")
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="name a new directory"):
        score_on_spark("local[1]", open_bundle(bundle), [tmp_path / "rows.parquet"], tmp_path / "out")
