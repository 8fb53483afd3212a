from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from farandole.errors import DatasetError
from farandole.loading import Batch, EvaluationLoader, TrainingLoader
from farandole.loading.ahead import made_ahead
from farandole.shards import Dataset

Write = Callable[..., Dataset]


def numbers(batch: Batch) -> list[int]:
    """Which rows a batch holds; all columns must agree about it."""
    number = batch.features["ids"][:, 0]
    assert torch.equal(batch.features["dense"], torch.stack([number, -number], dim=1).float())
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


# Reading ahead ------------------------------------------------------------------------------------------------


def test_reading_ahead_changes_nothing_in_the_batches() -> None:
    made = [batch_of(number) for number in range(50)]
    assert list(made_ahead(iter(made))) == made
    assert loader_threads() == []


def test_an_exception_in_the_thread_reaches_the_caller_after_the_batches_before_it() -> None:
    def fail() -> Iterator[Batch]:
        yield batch_of(0)
        yield batch_of(1)
        raise OSError(5, "the disk is gone")

    batches = made_ahead(fail())
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

    batches = made_ahead(endless(), depth=2)
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

    batches = made_ahead(slow_caller(), depth=2)
    next(batches)
    time.sleep(0.3)
    assert len(made) <= 4
    assert len(list(batches)) == 19


def test_a_batch_for_the_cpu_stays_where_it_is() -> None:
    batch = batch_of(1, 2)
    assert batch.to(torch.device("cpu")) is batch
