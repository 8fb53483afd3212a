from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from farandole.errors import DatasetError
from farandole.loading import Batch, EvaluationLoader, TrainingLoader
from farandole.loading.prefetch import prefetch
from farandole.shards import (
    Dataset,
    Group,
    Manifest,
    Schema,
    ShardWriter,
    content_digest,
    write_manifest,
)

Write = Callable[..., Dataset]


def numbers(batch: Batch) -> list[int]:
    """Which rows a batch holds; all columns must agree about it."""
    number = batch.features["ids"][:, 0]
    dense = batch.features["dense"]
    assert torch.equal(dense, torch.stack([number, -number] * (dense.shape[1] // 2), dim=1).float())
    assert torch.equal(batch.label, number * 2.0)
    assert batch.rows == len(number)
    return [int(value) for value in number]


def epoch(dataset: Dataset, size: int, number: int = 0, first_step: int = 0, **options: object) -> list[list[int]]:
    """The global batches of an epoch, put together from all ranks."""
    ranks = []
    for rank in range(size):
        loader = TrainingLoader(dataset, global_batch_size=7, rank=rank, size=size, **options)  # type: ignore[arg-type]
        ranks.append([numbers(batch) for batch in loader.epoch(number, first_step)])
    assert len({len(batches) for batches in ranks}) == 1
    return [[row for rank in step for row in rank] for step in zip(*ranks, strict=True)]


def loader_threads() -> list[threading.Thread]:
    """The threads that read ahead right now."""
    return [thread for thread in threading.enumerate() if thread.name == "farandole-loader"]


def batch_of(*values: int) -> Batch:
    """A batch that holds these numbers."""
    return Batch({}, torch.tensor(values), len(values), len(values))


def test_all_ranks_together_read_the_same_rows_in_the_same_order(write_dataset: Write) -> None:
    dataset = write_dataset(train=[20, 11], block_rows=4)
    alone = epoch(dataset, 1)
    assert sorted(row for batch in alone for row in batch) == list(range(31))
    assert [len(batch) for batch in alone] == [7, 7, 7, 7, 3]
    for size in (2, 3, 5):
        assert epoch(dataset, size) == alone


def test_each_epoch_and_each_seed_has_its_own_order(write_dataset: Write) -> None:
    dataset = write_dataset(train=[31])
    orders = [epoch(dataset, 1), epoch(dataset, 1, number=1), epoch(dataset, 1, seed=1)]
    assert len({str(order) for order in orders}) == 3


def test_an_epoch_can_go_on_from_any_step_with_another_number_of_ranks(write_dataset: Write) -> None:
    dataset = write_dataset(train=[20, 11])
    assert epoch(dataset, 3, first_step=2) == epoch(dataset, 1)[2:]
    assert epoch(dataset, 1, first_step=5) == []


def test_dropping_the_tail_leaves_full_batches(write_dataset: Write) -> None:
    dataset = write_dataset(train=[31])
    assert [len(batch) for batch in epoch(dataset, 2, tail="drop")] == [7, 7, 7, 7]
    assert TrainingLoader(dataset, global_batch_size=7, tail="drop").steps == 4
    assert TrainingLoader(dataset, global_batch_size=7).steps == 5


def test_a_batch_knows_its_rows_over_all_ranks(write_dataset: Write) -> None:
    dataset = write_dataset(train=[10])
    loader = TrainingLoader(dataset, global_batch_size=7, rank=1, size=3)
    assert [(batch.rows, batch.global_rows) for batch in loader.epoch(0)] == [(2, 7), (1, 3)]


def test_a_rank_without_rows_gets_an_empty_batch_of_the_right_kind(write_dataset: Write) -> None:
    loader = TrainingLoader(write_dataset(train=[8]), global_batch_size=7, rank=0, size=3)
    tail = list(loader.epoch(0))[1]
    assert tail.global_rows == 1
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tail.features.items()} == {
        "dense": (torch.float32, (0, 2)),
        "ids": (torch.int32, (0, 1)),
    }
    assert (tail.label.dtype, tail.rows) == (torch.float32, 0)


def test_tensors_may_be_written(write_dataset: Write) -> None:
    dataset = write_dataset(train=[8])
    loader = TrainingLoader(dataset, global_batch_size=8)
    (first,) = loader.epoch(0)
    for tensor in (*first.features.values(), first.label):
        tensor.zero_()
    (again,) = loader.epoch(0)
    assert sorted(numbers(again)) == list(range(8))


def test_a_split_without_rows_has_no_batches(write_dataset: Write) -> None:
    dataset = write_dataset(train=[], validation=[])
    assert list(TrainingLoader(dataset, global_batch_size=4).epoch(0)) == []
    assert list(EvaluationLoader(dataset, "validation")) == []


@pytest.mark.parametrize("size", [1, 2, 3, 5, 30])
@pytest.mark.parametrize("batch_rows", [1, 5, 100])
def test_evaluation_reads_each_row_once_in_order(write_dataset: Write, size: int, batch_rows: int) -> None:
    dataset = write_dataset(train=[1], test=[9, 4, 7], block_rows=3)
    seen = []
    for rank in range(size):
        loader = EvaluationLoader(dataset, "test", rank=rank, size=size, batch_rows=batch_rows)
        for batch in loader:
            assert 0 < batch.rows <= batch_rows
            seen += numbers(batch)
    assert seen == list(range(20))


def test_an_evaluation_loader_can_be_read_again(write_dataset: Write) -> None:
    loader = EvaluationLoader(write_dataset(test=[9]), "test", batch_rows=4)
    assert [numbers(batch) for batch in loader] == [numbers(batch) for batch in loader]


def test_an_unknown_split_is_refused(write_dataset: Write) -> None:
    with pytest.raises(DatasetError, match="no split 'validation'"):
        EvaluationLoader(write_dataset(train=[3]), "validation")


def test_a_missing_shard_reaches_the_caller(write_dataset: Write) -> None:
    dataset = write_dataset(train=[8, 8])
    (dataset.directory / dataset.manifest.splits["train"][1].file).unlink()
    with pytest.raises(DatasetError, match="the shard is missing"):
        list(TrainingLoader(dataset, global_batch_size=4).epoch(0))
    assert loader_threads() == []


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 11])
def test_batches_hold_the_rows_that_the_order_says(write_dataset: Write, size: int, wide: bool) -> None:
    """Narrow rows are copied window by window, wide ones run by run: both give what `EpochOrder.places` says."""
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
            places = order.places(step, 0, order.batch_rows(step))
            wanted = (first_rows[places.block] + places.row).tolist()
            assert [row for part in parts for row in numbers(part)] == wanted
            assert [row for part in parts if part.row_ids is not None for row in part.row_ids.tolist()] == wanted


# Where it is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [0, 1, 3, 4, 5, 7])
@pytest.mark.parametrize("read_ahead", [0, 2])
def test_a_saved_state_goes_on_with_the_next_batch(write_dataset: Write, stop: int, read_ahead: int) -> None:
    dataset = write_dataset(train=[20, 11])
    whole = epoch(dataset, 1) + epoch(dataset, 1, number=1)
    loader = TrainingLoader(dataset, global_batch_size=7, read_ahead=read_ahead)
    seen: list[list[int]] = []
    state = loader.state_dict()
    while len(seen) < stop:
        for batch in loader:
            seen.append(numbers(batch))
            state = json.loads(json.dumps(loader.state_dict()))
            if len(seen) == stop:
                break
    ranks = [TrainingLoader(dataset, global_batch_size=7, rank=rank, size=2, seed=9) for rank in range(2)]
    for other in ranks:
        other.load_state_dict(state)
    while len(seen) < 10:
        seen += [numbers(first) + numbers(second) for first, second in zip(*ranks, strict=True)]
    assert seen == whole


def test_each_pass_of_a_loader_is_another_epoch(write_dataset: Write) -> None:
    dataset = write_dataset(train=[31])
    loader = TrainingLoader(dataset, global_batch_size=7)
    assert len(loader) == 5
    passes = [[numbers(batch) for batch in loader] for _ in range(2)]
    assert passes == [epoch(dataset, 1), epoch(dataset, 1, number=1)]
    assert loader.state_dict()["epoch"] == 2


def test_a_state_of_another_dataset_or_batch_size_is_refused(write_dataset: Write) -> None:
    dataset, other = write_dataset(train=[31]), write_dataset(train=[30], name="other")
    state = TrainingLoader(dataset, global_batch_size=7).state_dict()
    with pytest.raises(DatasetError, match=r"other: the loader's state belongs to dataset [0-9a-f]{12}, and this is"):
        TrainingLoader(other, global_batch_size=7).load_state_dict(state)
    with pytest.raises(DatasetError, match="global_batch_size 7, and this loader 8, so its order of rows is another"):
        TrainingLoader(dataset, global_batch_size=8).load_state_dict(state)
    with pytest.raises(DatasetError, match="algorithm 1, and this loader 2"):
        TrainingLoader(dataset, global_batch_size=7).load_state_dict({**state, "algorithm": 1})


# What is in a batch -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_padded_tail_marks_what_is_no_row(write_dataset: Write, size: int) -> None:
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
def test_a_transform_gets_rows_their_numbers_and_the_epoch(write_dataset: Write, size: int) -> None:
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


def test_masks_are_bool_and_a_dataset_may_have_no_label(tmp_path: Path) -> None:
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
def test_batches_that_are_kept_are_never_overwritten(write_dataset: Write, read_ahead: int, wide: bool) -> None:
    dataset = write_dataset(train=[300], block_rows=50, wide=wide)
    loader = TrainingLoader(dataset, global_batch_size=7, read_ahead=read_ahead)
    kept = list(loader.epoch(0))
    views = [batch.features["dense"][2:4, 1:] for batch in loader.epoch(0) if batch.rows == 7]
    list(loader.epoch(1))
    assert [numbers(batch) for batch in kept] == epoch(dataset, 1)
    for batch, view in zip(kept, views, strict=False):
        assert torch.equal(batch.features["dense"][2:4, 1:], view)


def test_memory_of_batches_that_are_dropped_is_used_again(write_dataset: Write) -> None:
    """Windows of 64 steps take their memory in one piece: 6 windows need two or three pieces, not six."""
    dataset = write_dataset(train=[6 * 64 * 7])
    for read_ahead, pieces in ((0, 2), (2, 3)):
        loader = TrainingLoader(dataset, global_batch_size=7, read_ahead=read_ahead)
        assert loader.order(0).window_steps == 64
        assert len({batch.label.data_ptr() for batch in loader.epoch(0)}) <= pieces * 64


def test_without_reading_ahead_there_is_no_thread(write_dataset: Write) -> None:
    dataset = write_dataset(train=[31])
    for _ in TrainingLoader(dataset, global_batch_size=7, read_ahead=0).epoch(0):
        assert loader_threads() == []


def test_no_flipped_byte_is_ever_trained_on(write_dataset: Write) -> None:
    """Each of 100 flips, anywhere in a shard, stops the loader with the shard's name before a batch is wrong."""
    dataset = write_dataset(train=[40, 23], block_rows=6)
    right = epoch(dataset, 1, read_ahead=0)
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
            seen.extend(numbers(batch) for batch in loader.epoch(0))  # it keeps what came before the error
        assert seen == right[: len(seen)]
        path.write_bytes(whole)


# Reading ahead ------------------------------------------------------------------------------------------------


def test_reading_ahead_changes_nothing_in_the_batches() -> None:
    made = [batch_of(number) for number in range(50)]
    assert list(prefetch(iter(made))) == made
    assert loader_threads() == []


def test_an_exception_in_the_thread_reaches_the_caller_after_the_batches_before_it() -> None:
    def fail() -> Iterator[Batch]:
        yield batch_of(0)
        yield batch_of(1)
        raise OSError(5, "the disk is gone")

    batches = prefetch(fail())
    assert [int(next(batches).label[0]) for _ in range(2)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert loader_threads() == []


def test_stopping_early_leaves_no_thread_behind() -> None:
    made = []

    def endless() -> Iterator[Batch]:
        while True:
            made.append(len(made))
            yield batch_of(len(made))

    batches = prefetch(endless(), depth=2)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert loader_threads() == []
    assert len(made) <= 5


def test_an_error_of_the_caller_leaves_no_thread_behind(write_dataset: Write) -> None:
    dataset = write_dataset(train=[31])

    def use() -> None:
        for _ in TrainingLoader(dataset, global_batch_size=2).epoch(0):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        use()
    deadline = time.monotonic() + 5
    while loader_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert loader_threads() == []


def test_a_loader_that_nobody_reads_starts_no_thread(write_dataset: Write) -> None:
    TrainingLoader(write_dataset(train=[8]), global_batch_size=4).epoch(0)
    assert loader_threads() == []


def test_the_thread_reads_only_a_few_batches_ahead() -> None:
    made = []

    def slow_caller() -> Iterator[Batch]:
        for number in range(20):
            made.append(number)
            yield batch_of(number)

    batches = prefetch(slow_caller(), depth=2)
    next(batches)
    time.sleep(0.3)
    assert len(made) <= 4
    assert len(list(batches)) == 19


def test_a_batch_for_the_cpu_stays_where_it_is() -> None:
    batch = batch_of(1, 2)
    assert batch.to(torch.device("cpu")) is batch
