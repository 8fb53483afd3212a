from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from farandole.serving.score_files import FilePart, columns_of, count_rows, divide, read_blocks, row_writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"a": list(range(100)), "b": ["x"] * 100}), tmp_path / "rows.parquet", row_group_size=10)
    return tmp_path / "rows.parquet"


def test_blocks_have_a_limited_size_and_know_their_position(path: Path) -> None:
    blocks = list(read_blocks([FilePart(path)], ["a"], 30))
    assert sum(len(block.rows) for block in blocks) == 100
    assert all(len(block.rows) <= 30 for block in blocks)
    assert all(block.rows.column("a")[0].as_py() == block.first_row for block in blocks)


def test_parts_are_row_groups_in_their_order(path: Path) -> None:
    parts = divide([path, path], 35)
    assert [part.row_groups for part in parts[:3]] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]
    assert [part.first_row for part in parts[:3]] == [0, 40, 80]
    assert count_rows(parts) == 200
    found = [
        value for part in parts for block in read_blocks([part], ["a"]) for value in block.rows.column("a").to_pylist()
    ]
    assert found == [*range(100), *range(100)]


def test_a_text_file_is_one_part_of_unknown_length(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("a\tb\n1\tNA\n\t\n")
    parts = divide([tmp_path / "rows.tsv"], 1)
    assert parts == [FilePart(tmp_path / "rows.tsv")]
    assert count_rows(parts) == 0
    assert columns_of(tmp_path / "rows.tsv") == ["a", "b"]
    (block,) = read_blocks(parts, ["b", "a"])
    assert block.rows.to_pylist() == [{"b": "NA", "a": "1"}, {"b": None, "a": None}]


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.int64())])

    def stop_halfway() -> None:
        with row_writer(tmp_path / "out.csv", schema) as writer:
            writer.write_batch(pa.record_batch({"a": [1]}))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop_halfway()
    assert list(tmp_path.iterdir()) == []
    with row_writer(tmp_path / "out.tsv", schema) as writer:
        writer.write_batch(pa.record_batch({"a": [1]}))
    assert (tmp_path / "out.tsv").read_text() == '"a"\n1\n'
