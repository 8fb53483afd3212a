from __future__ import annotations

import json

import pytest

from farandole.errors import DatasetError
from farandole.loading import TrainingLoader
from tests.support.numbered_rows import WriteDataset, read_epoch, row_numbers


@pytest.mark.parametrize("stop", [0, 1, 3, 4, 5, 7])
@pytest.mark.parametrize("read_ahead", [0, 2])
def test_a_saved_state_resumes_at_the_next_batch(write_dataset: WriteDataset, stop: int, read_ahead: int) -> None:
    dataset = write_dataset(train=[20, 11])
    whole = read_epoch(dataset, 1) + read_epoch(dataset, 1, number=1)
    loader = TrainingLoader(dataset, global_batch_size=7, read_ahead=read_ahead)
    seen: list[list[int]] = []
    state = loader.state_dict()
    while len(seen) < stop:
        for batch in loader:
            seen.append(row_numbers(batch))
            state = json.loads(json.dumps(loader.state_dict()))
            if len(seen) == stop:
                break
    ranks = [TrainingLoader(dataset, global_batch_size=7, rank=rank, size=2, seed=9) for rank in range(2)]
    for other in ranks:
        other.load_state_dict(state)
    while len(seen) < 10:
        seen += [row_numbers(first) + row_numbers(second) for first, second in zip(*ranks, strict=True)]
    assert seen == whole


def test_each_pass_over_a_loader_is_a_new_epoch(write_dataset: WriteDataset) -> None:
    dataset = write_dataset(train=[31])
    loader = TrainingLoader(dataset, global_batch_size=7)
    assert len(loader) == 5
    passes = [[row_numbers(batch) for batch in loader] for _ in range(2)]
    assert passes == [read_epoch(dataset, 1), read_epoch(dataset, 1, number=1)]
    assert loader.state_dict()["epoch"] == 2


def test_a_state_of_another_dataset_or_batch_size_is_rejected(write_dataset: WriteDataset) -> None:
    dataset, other = write_dataset(train=[31]), write_dataset(train=[30], name="other")
    state = TrainingLoader(dataset, global_batch_size=7).state_dict()
    with pytest.raises(
        DatasetError, match=r"other: the loader state was saved for dataset [0-9a-f]{12}, but this dataset is"
    ):
        TrainingLoader(other, global_batch_size=7).load_state_dict(state)
    with pytest.raises(DatasetError, match="global_batch_size 7, but this loader has 8, so the order of rows differs"):
        TrainingLoader(dataset, global_batch_size=8).load_state_dict(state)
    with pytest.raises(DatasetError, match="algorithm 1, but this loader has 2"):
        TrainingLoader(dataset, global_batch_size=7).load_state_dict({**state, "algorithm": 1})
