"""Numbers as people write them."""

from __future__ import annotations

import pyarrow as pa
import pytest

from farandole.guessing.sampling.written_numbers import find_written_numbers


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["$1,234.50", "-$3", "+7"], [1234.5, -3.0, 7.0]),
        (["1.234,50 €", "-0,5"], [1234.5, -0.5]),
        (["1 234,5", "12"], [1234.5, 12.0]),
        (["1'234.50", "2"], [1234.5, 2.0]),
        (["(1,234.50)", "$5", "($ 2)"], [-1234.5, 5.0, -2.0]),
        (["7 %", "12.5%"], [7.0, 12.5]),
    ],
)
def test_numbers_are_read(texts: list[str], expected: list[float]) -> None:
    found = find_written_numbers(pa.array(texts), comma_first=False)
    assert found is not None
    assert found.values.to_pylist() == expected


@pytest.mark.parametrize("texts", [["(5", "3"], ["5)"], ["(-5)"], ["1,23,4"], ["a 5"], ["5 kg"], ["1.2.3"], []])
def test_other_texts_are_not_numbers(texts: list[str]) -> None:
    assert find_written_numbers(pa.array(texts, pa.string()), comma_first=False) is None
