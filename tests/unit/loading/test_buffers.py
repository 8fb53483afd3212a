from __future__ import annotations

import numpy as np
import torch

from farandole.loading.buffers import ROW_IDS, BatchBuffers, BatchMemory, batch_columns
from farandole.shards import LABEL, Group, LabelColumn, Schema

SCHEMA = Schema(
    groups=(
        Group(name="dense", kind="numbers", features=("a", "b")),
        Group(name="mask", kind="mask", features=("t",), shape=(3,)),
    ),
    label=LabelColumn(kind="regression", column="y"),
)
COLUMNS = batch_columns(SCHEMA, row_ids=True)


def test_columns_are_the_groups_the_label_and_the_row_ids() -> None:
    assert [(column.name, column.size, column.batch_dtype.type) for column in COLUMNS] == [
        ("dense", 2, np.float32),
        ("mask", 3, np.bool_),
        (LABEL, 1, np.float32),
        (ROW_IDS, 1, np.int64),
    ]


def test_tensors_view_the_targets_without_a_copy() -> None:
    memory = BatchMemory(COLUMNS, 4, pin=False)
    for target in memory.targets:
        target[:] = np.arange(target.size).reshape(target.shape) % 2
    tensors = memory.tensors(3)
    assert tensors["dense"].data_ptr() == memory.targets[0].ctypes.data
    assert tensors["mask"].tolist() == [[False, True, False], [True, False, True], [False, True, False]]
    assert [tuple(tensor.shape) for tensor in tensors.values()] == [(3, 2), (3, 3), (3,), (3,)]


def test_a_buffer_is_split_into_consecutive_batches() -> None:
    memory = BatchMemory(COLUMNS, 6, pin=False)
    memory.targets[3][:] = np.arange(6)[:, None]
    assert [batch[ROW_IDS].tolist() for batch in memory.batches(2, 3)] == [[0, 1, 2], [3, 4, 5]]


def test_padding_is_zero_with_a_row_id_of_minus_one() -> None:
    memory = BatchMemory(COLUMNS, 3, pin=False)
    for target in memory.targets:
        target[:] = 1
    memory.fill_padding(1, 3)
    tensors = memory.tensors(3)
    assert tensors["dense"].tolist() == [[1, 1], [0, 0], [0, 0]]
    assert tensors[ROW_IDS].tolist() == [1, -1, -1]


def test_memory_is_reused_only_after_the_last_view_is_gone() -> None:
    buffers = BatchBuffers(COLUMNS, 4)
    memory = buffers.acquire()
    view: torch.Tensor | None = memory.tensors(4)["dense"][1:2]
    assert not memory.is_idle
    assert buffers.acquire() is not memory
    view = None
    assert view is None
    assert memory.is_idle
    assert {id(buffers.acquire()) for _ in range(3)} <= {id(memory), *(id(each) for each in buffers._buffers)}


def test_a_large_buffer_starts_at_a_huge_page() -> None:
    rows = 2 * 1024 * 1024
    memory = BatchMemory(COLUMNS, rows, pin=False)
    assert memory.targets[0].ctypes.data % (2 * 1024 * 1024) == 0
