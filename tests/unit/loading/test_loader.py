from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from farandole.errors import DatasetError
from farandole.loading import EvaluationLoader, TrainingLoader
from farandole.shards import Dataset, Group, Manifest, Schema, ShardWriter, content_digest, write_manifest
from tests.support.numbered_rows import WriteDataset, loader_threads, read_epoch, row_numbers


def test_all_ranks_together_read_the_same_rows_in_the_same_order(write_dataset: WriteDataset) -> None:
    dataset = write_dataset(train=[20, 11], block_rows=4)
    alone = read_epoch(dataset, 1)
    assert sorted(row for batch in alone for row in batch) == list(range(31))
    assert [len(batch) for batch in alone] == [7, 7, 7, 7, 3]
    for size in (2, 3, 5):
        assert read_epoch(dataset, size) == alone


def test_each_epoch_and_each_seed_has_a_different_order(write_dataset: WriteDataset) -> None:
    dataset = write_dataset(train=[31])
    orders = [read_epoch(dataset, 1), read_epoch(dataset, 1, number=1), read_epoch(dataset, 1, seed=1)]
    assert len({str(order) for order in orders}) == 3


def test_an_epoch_can_start_at_any_step_with_another_number_of_ranks(write_dataset: WriteDataset) -> None:
    dataset = write_dataset(train=[20, 11])
    assert read_epoch(dataset, 3, first_step=2) == read_epoch(dataset, 1)[2:]
    assert read_epoch(dataset, 1, first_step=5) == []


def test_dropping_the_tail_leaves_full_batches(write_dataset: WriteDataset) -> None:
    dataset = write_dataset(train=[31])
    assert [len(batch) for batch in read_epoch(dataset, 2, tail="drop")] == [7, 7, 7, 7]
    assert TrainingLoader(dataset, global_batch_size=7, tail="drop").steps == 4
    assert TrainingLoader(dataset, global_batch_size=7).steps == 5


def test_a_batch_holds_its_number_of_rows_over_all_ranks(write_dataset: WriteDataset) -> None:
    dataset = write_dataset(train=[10])
    loader = TrainingLoader(dataset, global_batch_size=7, rank=1, size=3)
    assert [(batch.rows, batch.global_rows) for batch in loader.epoch(0)] == [(2, 7), (1, 3)]


def test_a_rank_without_rows_gets_an_empty_batch_of_the_right_dtypes(write_dataset: WriteDataset) -> None:
    loader = TrainingLoader(write_dataset(train=[8]), global_batch_size=7, rank=0, size=3)
    tail = list(loader.epoch(0))[1]
    assert tail.global_rows == 1
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tail.features.items()} == {
        "dense": (torch.float32, (0, 2)),
        "ids": (torch.int32, (0, 1)),
    }
    assert (tail.label.dtype, tail.rows) == (torch.float32, 0)


def test_the_caller_may_modify_tensors(write_dataset: WriteDataset) -> None:
    dataset = write_dataset(train=[8])
    loader = TrainingLoader(dataset, global_batch_size=8)
    (first,) = loader.epoch(0)
    for tensor in (*first.features.values(), first.label):
        tensor.zero_()
    (again,) = loader.epoch(0)
    assert sorted(row_numbers(again)) == list(range(8))


def test_a_split_without_rows_has_no_batches(write_dataset: WriteDataset) -> None:
    dataset = write_dataset(train=[], validation=[])
    assert list(TrainingLoader(dataset, global_batch_size=4).epoch(0)) == []
    assert list(EvaluationLoader(dataset, "validation")) == []


def test_a_missing_shard_is_reported_to_the_caller(write_dataset: WriteDataset) -> None:
    dataset = write_dataset(train=[8, 8])
    (Path(dataset.directory) / dataset.manifest.splits["train"][1].file).unlink()
    with pytest.raises(DatasetError, match="the shard is missing"):
        list(TrainingLoader(dataset, global_batch_size=4).epoch(0))
    assert loader_threads() == []


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 11])
def test_batches_hold_the_rows_of_the_order(write_dataset: WriteDataset, size: int, wide: bool) -> None:
    """Narrow rows are copied by window, wide rows by run; both must match `EpochOrder.row_addresses`."""
    dataset = write_dataset(train=[700, 412], block_rows=101, wide=wide)
    first_rows = np.cumsum([0, *dataset.split("train").block_rows])
    for number, first_step in ((0, 0), (1, 3), (2, 21)):
        loaders = [
            TrainingLoader(dataset, global_batch_size=50, rank=rank, size=size, row_ids=True, read_ahead=0)
            for rank in range(size)
        ]
        order = loaders[0].order(number)
        ranks = [list(loader.epoch(number, first_step)) for loader in loaders]
        assert {len(batches) for batches in ranks} == {order.steps - first_step}
        for step, parts in enumerate(zip(*ranks, strict=True), start=first_step):
            addresses = order.row_addresses(step, 0, order.batch_rows(step))
            wanted = (first_rows[addresses.block] + addresses.row).tolist()
            assert [row for part in parts for row in row_numbers(part)] == wanted
            assert [row for part in parts if part.row_ids is not None for row in part.row_ids.tolist()] == wanted


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_mask_of_a_padded_tail_marks_the_padding(write_dataset: WriteDataset, size: int) -> None:
    dataset = write_dataset(train=[17])
    ranks = [
        list(TrainingLoader(dataset, global_batch_size=7, rank=rank, size=size, tail="pad", row_ids=True).epoch(0))
        for rank in range(size)
    ]
    steps = list(zip(*ranks, strict=True))
    assert [[sum(part.rows for part in step), step[0].global_rows] for step in steps] == [[7, 7], [7, 7], [7, 3]]
    seen = []
    for part in (part for step in steps for part in step):
        assert part.mask is not None
        assert part.row_ids is not None
        assert part.mask.dtype == torch.bool
        assert len(part.mask) == len(part.label) == part.rows
        assert (part.row_ids >= 0).tolist() == part.mask.tolist()
        assert not part.features["dense"][~part.mask].any()
        seen += part.features["ids"][part.mask][:, 0].tolist()
        assert part.row_ids[part.mask.numpy()].tolist() == part.features["ids"][part.mask][:, 0].tolist()
    assert sorted(seen) == list(range(17))


@pytest.mark.parametrize("size", [1, 3])
def test_a_transform_receives_rows_their_numbers_and_the_epoch(write_dataset: WriteDataset, size: int) -> None:
    dataset = write_dataset(train=[20, 11])

    def change(features: dict[str, torch.Tensor], row_ids: np.ndarray, number: int) -> dict[str, torch.Tensor]:
        assert features["ids"][:, 0].tolist() == row_ids.tolist()
        return {"dense": features["dense"] + number + torch.from_numpy(row_ids)[:, None]}

    seen = {}
    for rank in range(size):
        loader = TrainingLoader(dataset, global_batch_size=7, rank=rank, size=size, transform=change)
        for batch in loader.epoch(4):
            assert list(batch.features) == ["dense"]
            assert batch.row_ids is None
            for row, label in zip(batch.features["dense"].tolist(), batch.label.tolist(), strict=True):
                seen[int(label) // 2] = row
    assert seen == {number: [2.0 * number + 4, 4.0] for number in range(31)}


def test_masks_are_bool_and_the_label_is_optional(tmp_path: Path) -> None:
    schema = Schema(
        groups=(
            Group(name="text", kind="tokens", features=("t",), cardinalities=(100,), shape=(5,)),
            Group(name="text_mask", kind="mask", features=("t",), shape=(5,)),
            Group(name="picture", kind="image", features=("p",), shape=(2, 3, 1)),
        )
    )
    number = np.arange(30)
    writer = ShardWriter(tmp_path, "train", 0, schema, block_rows=8)
    mask = np.arange(5) < (number % 6)[:, None]
    writer.write(
        {
            "text": np.repeat(number[:, None], 5, axis=1).astype(np.int32),
            "text_mask": mask.astype(np.uint8),
            "picture": np.repeat(number, 6).reshape(30, 2, 3, 1).astype(np.uint8),
        }
    )
    splits = {"train": (writer.close(),), "validation": (), "test": ()}
    fields = {"preprocessing": {}, "statistics": {}, "split_rule": {}, "sources": (), "request": "", "code_version": {}}
    digest = content_digest(schema, {}, splits)
    write_manifest(tmp_path, Manifest(digest=digest, columns=schema, splits=splits, **fields))
    dataset = Dataset(tmp_path)
    for batches in (TrainingLoader(dataset, global_batch_size=8), EvaluationLoader(dataset, "train", batch_rows=7)):
        seen = []
        for batch in batches:
            assert batch.label.shape == (0,)
            rows = batch.features["text"][:, 0]
            assert batch.features["text_mask"].dtype == torch.bool
            assert torch.equal(batch.features["text_mask"], torch.from_numpy(mask)[rows.long()])
            assert batch.features["picture"].shape == (batch.rows, 2, 3, 1)
            assert torch.equal(batch.features["picture"].flatten(1)[:, 0], rows.to(torch.uint8))
            seen += rows.tolist()
        assert sorted(seen) == list(range(30))


@pytest.mark.parametrize("read_ahead", [0, 2])
@pytest.mark.parametrize("wide", [False, True])
def test_batches_that_the_caller_keeps_are_never_overwritten(
    write_dataset: WriteDataset, read_ahead: int, wide: bool
) -> None:
    dataset = write_dataset(train=[300], block_rows=50, wide=wide)
    loader = TrainingLoader(dataset, global_batch_size=7, read_ahead=read_ahead)
    kept = list(loader.epoch(0))
    views = [batch.features["dense"][2:4, 1:] for batch in loader.epoch(0) if batch.rows == 7]
    list(loader.epoch(1))
    assert [row_numbers(batch) for batch in kept] == read_epoch(dataset, 1)
    for batch, view in zip(kept, views, strict=False):
        assert torch.equal(batch.features["dense"][2:4, 1:], view)


def test_the_memory_of_released_batches_is_reused(write_dataset: WriteDataset) -> None:
    """A window of 64 steps uses one buffer; 6 windows must need two or three buffers, not six."""
    dataset = write_dataset(train=[6 * 64 * 7])
    for read_ahead, pieces in ((0, 2), (2, 3)):
        loader = TrainingLoader(dataset, global_batch_size=7, read_ahead=read_ahead)
        assert loader.order(0).window_steps == 64
        assert len({batch.label.data_ptr() for batch in loader.epoch(0)}) <= pieces * 64


def test_without_read_ahead_no_thread_is_started(write_dataset: WriteDataset) -> None:
    dataset = write_dataset(train=[31])
    for _ in TrainingLoader(dataset, global_batch_size=7, read_ahead=0).epoch(0):
        assert loader_threads() == []


def test_a_flipped_byte_is_detected_before_its_rows_are_yielded(write_dataset: WriteDataset) -> None:
    """Flip 100 bytes anywhere in the shards; each must stop the loader, naming the shard, before a wrong batch."""
    dataset = write_dataset(train=[40, 23], block_rows=6)
    right = read_epoch(dataset, 1, read_ahead=0)
    random = np.random.default_rng(0)
    for _ in range(100):
        shard = dataset.manifest.splits["train"][random.integers(2)]
        path = dataset.local_path(shard)
        whole = path.read_bytes()
        place = int(random.integers(len(whole)))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << random.integers(8))]) + whole[place + 1 :])
        seen: list[list[int]] = []
        loader = TrainingLoader(Dataset(dataset.directory), global_batch_size=7, read_ahead=0)
        with pytest.raises(DatasetError, match=f"{path.name}: .* is damaged"):
            seen.extend(row_numbers(batch) for batch in loader.epoch(0))  # keeps the batches before the error
        assert seen == right[: len(seen)]
        path.write_bytes(whole)


def test_an_error_in_the_caller_ends_the_thread(write_dataset: WriteDataset) -> None:
    dataset = write_dataset(train=[31])

    def use() -> None:
        for _ in TrainingLoader(dataset, global_batch_size=2).epoch(0):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        use()
    deadline = time.monotonic() + 60
    while loader_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert loader_threads() == []


def test_a_loader_without_a_consumer_starts_no_thread(write_dataset: WriteDataset) -> None:
    TrainingLoader(write_dataset(train=[8]), global_batch_size=4).epoch(0)
    assert loader_threads() == []
