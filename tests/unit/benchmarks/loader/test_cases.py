from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.loader.cases import ARRAYS, CASES, DATASET, write_case
from farandole.shards import LABEL, Dataset, verify


@pytest.mark.parametrize("name", ["table", "images", "tokens"])
def test_dataset_and_plain_arrays_of_a_case_have_the_same_rows(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    write_case(case, tmp_path, rows=300, plain_rows=200)
    assert verify(tmp_path / DATASET) == []
    reader = Dataset(tmp_path / DATASET).split("train")
    assert reader.rows == 300
    for column in (case.group.name, LABEL):
        written = np.concatenate([reader.block(number)[column] for number in range(len(reader.block_rows))])
        plain = np.load(tmp_path / ARRAYS / f"{column}.npy")
        assert len(plain) == 200
        assert np.array_equal(written[:200], plain)
        assert len(np.unique(plain)) > 1
