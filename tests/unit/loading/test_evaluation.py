from __future__ import annotations

import pytest

from farandole.errors import DatasetError
from farandole.loading import EvaluationLoader
from tests.support.numbered_rows import WriteDataset, row_numbers


@pytest.mark.parametrize("size", [1, 2, 3, 5, 30])
@pytest.mark.parametrize("batch_rows", [1, 5, 100])
def test_each_row_is_read_once_in_order(write_dataset: WriteDataset, size: int, batch_rows: int) -> None:
    dataset = write_dataset(train=[1], test=[9, 4, 7], block_rows=3)
    seen = []
    for rank in range(size):
        loader = EvaluationLoader(dataset, "test", rank=rank, size=size, batch_rows=batch_rows)
        for batch in loader:
            assert 0 < batch.rows <= batch_rows
            seen += row_numbers(batch)
    assert seen == list(range(20))


def test_a_loader_can_be_iterated_again(write_dataset: WriteDataset) -> None:
    loader = EvaluationLoader(write_dataset(test=[9]), "test", batch_rows=4)
    assert [row_numbers(batch) for batch in loader] == [row_numbers(batch) for batch in loader]


def test_an_unknown_split_is_rejected(write_dataset: WriteDataset) -> None:
    with pytest.raises(DatasetError, match="no split 'validation'"):
        EvaluationLoader(write_dataset(train=[3]), "validation")
