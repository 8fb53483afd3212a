from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from farandole.shards import LABEL, Schema, ShardInfo, ShardWriter

Columns = dict[str, np.ndarray]


def write(directory: Path, schema: Schema, columns: Columns, pieces: list[int], block_rows: int = 4) -> ShardInfo:
    """Write one shard in pieces of a number of rows."""
    writer = ShardWriter(directory, "train", 3, schema, block_rows)
    start = 0
    for count in pieces:
        writer.write({name: values[start : start + count] for name, values in columns.items()})
        start += count
    return writer.close()


def test_blocks_have_the_requested_rows_and_the_last_one_the_rest(
    tmp_path: Path, schema: Schema, rows: Callable[..., Columns]
) -> None:
    info = write(tmp_path, schema, rows(11), [11])
    assert [block.rows for block in info.blocks] == [4, 4, 3]
    assert info.rows == 11
    with pa.ipc.open_file(str(tmp_path / info.file)) as reader:
        assert [reader.get_batch(index).num_rows for index in range(reader.num_record_batches)] == [4, 4, 3]


@pytest.mark.parametrize("count", [4, 8])
def test_no_empty_block_is_written_after_full_ones(
    tmp_path: Path, schema: Schema, rows: Callable[..., Columns], count: int
) -> None:
    assert [block.rows for block in write(tmp_path, schema, rows(count), [count]).blocks] == [4] * (count // 4)


def test_shard_without_rows_is_a_file_without_blocks(
    tmp_path: Path, schema: Schema, rows: Callable[..., Columns]
) -> None:
    info = write(tmp_path, schema, rows(0), [0])
    assert (info.rows, info.blocks) == (0, ())
    with pa.ipc.open_file(str(tmp_path / info.file)) as reader:
        assert reader.schema == schema.arrow
        assert reader.num_record_batches == 0


@given(pieces=st.lists(st.integers(0, 9), min_size=1, max_size=6), block_rows=st.integers(1, 7))
@hypothesis_settings(max_examples=20, deadline=None)
def test_file_does_not_depend_on_how_rows_are_batched(
    tmp_path_factory: pytest.TempPathFactory,
    schema: Schema,
    rows: Callable[..., Columns],
    pieces: list[int],
    block_rows: int,
) -> None:
    directory = tmp_path_factory.mktemp("shards")
    columns = rows(sum(pieces))
    whole = write(directory, schema, columns, [sum(pieces)], block_rows)
    assert write(directory, schema, columns, pieces, block_rows) == whole
    assert [path.name for path in (directory / "train").iterdir()] == [Path(whole.file).name]


def test_name_ends_in_the_checksum_of_the_file(tmp_path: Path, schema: Schema, rows: Callable[..., Columns]) -> None:
    info = write(tmp_path, schema, rows(11), [5, 6])
    content = (tmp_path / info.file).read_bytes()
    assert info.xxh3_128 == xxhash.xxh3_128_hexdigest(content)
    assert info.bytes == len(content)
    assert info.file == f"train/00003-{info.xxh3_128[:16]}.arrow"


def test_blocks_are_adjacent_from_the_start_to_the_footer(
    tmp_path: Path, schema: Schema, rows: Callable[..., Columns]
) -> None:
    info = write(tmp_path, schema, rows(11), [11])
    content = (tmp_path / info.file).read_bytes()
    place = 0
    for block in info.blocks:
        assert block.offset == place
        assert block.xxh3_64 == xxhash.xxh3_64_hexdigest(content[place : place + block.bytes])
        place += block.bytes
    assert content[:6] == b"ARROW1"
    # The rest is Arrow's end mark and the footer.
    assert content[place : place + 8] == b"\xff\xff\xff\xff\0\0\0\0"
    assert content.endswith(b"ARROW1")


def test_buffers_are_neither_compressed_nor_copied(
    tmp_path: Path, schema: Schema, rows: Callable[..., Columns]
) -> None:
    info = write(tmp_path, schema, rows(4), [4])
    columns = rows(4)
    content = (tmp_path / info.file).read_bytes()
    assert columns["dense"].tobytes() in content
    assert columns[LABEL].tobytes() in content


def test_only_close_publishes_the_file(tmp_path: Path, schema: Schema, rows: Callable[..., Columns]) -> None:
    writer = ShardWriter(tmp_path, "train", 0, schema, block_rows=2)
    writer.write(rows(5))
    assert [path.suffix for path in (tmp_path / "train").iterdir()] == [".tmp"]
    writer.close()
    assert [path.suffix for path in (tmp_path / "train").iterdir()] == [".arrow"]


def test_abandoned_shard_leaves_nothing(tmp_path: Path, schema: Schema, rows: Callable[..., Columns]) -> None:
    writer = ShardWriter(tmp_path, "train", 0, schema, block_rows=2)
    writer.write(rows(5))
    writer.abandon()
    assert list((tmp_path / "train").iterdir()) == []


def test_two_attempts_of_one_task_leave_one_file(tmp_path: Path, schema: Schema, rows: Callable[..., Columns]) -> None:
    writers = [ShardWriter(tmp_path, "train", 0, schema, block_rows=2) for _ in range(2)]
    for writer in writers:
        writer.write(rows(5))
    first, second = (writer.close() for writer in writers)
    assert first == second
    assert len(list((tmp_path / "train").iterdir())) == 1
