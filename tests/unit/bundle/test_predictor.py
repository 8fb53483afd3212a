from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from farandole.bundle import open_bundle
from farandole.bundle.export import generated_features
from farandole.bundle.predictor import _BLOCK_BYTES, _BLOCK_ROWS, _block_rows
from tests.support.bundles import write_small_bundle


def test_blocks_fit_into_the_cache_and_are_multiples_of_16_rows() -> None:
    assert _block_rows(136) == _BLOCK_ROWS
    assert _block_rows(0) == _BLOCK_ROWS
    assert _block_rows(28 * 28) * 28 * 28 <= _BLOCK_BYTES
    assert _block_rows(28 * 28) % 16 == 0
    assert _block_rows(224 * 224 * 3) == 16, "a photo is never alone in its block"


@pytest.mark.parametrize("form", ["eager", "program"])
def test_the_bits_of_a_row_do_not_depend_on_the_size_of_its_block(tmp_path: Path, form: str) -> None:
    bundle = open_bundle(write_small_bundle(tmp_path / "bundle"))
    predictor, features = bundle.predictor(form), generated_features(bundle, _BLOCK_ROWS + 77)
    whole = predictor.outputs(features)
    for start, size in [(0, 16), (5, 1), (1000, 700), (_BLOCK_ROWS - 3, 80)]:
        part = predictor.outputs({name: values[start : start + size] for name, values in features.items()})
        assert np.array_equal(part.view(np.int32), whole[start : start + size].view(np.int32))
