from __future__ import annotations

import pytest

from farandole.pages.chart import HEIGHT, WIDTH, histogram_bars, shares


def test_bars_stand_on_the_ground_and_fill_the_width() -> None:
    bars = histogram_bars([0.0, 1.0, 2.0, 4.0], [5, 0, 10])
    assert [bar["x"] for bar in bars] == [0, WIDTH / 4, WIDTH / 2]
    assert [bar["height"] for bar in bars] == [HEIGHT / 2, 0, HEIGHT]
    assert all(bar["y"] + bar["height"] == HEIGHT for bar in bars)
    assert bars[2]["x"] + bars[2]["width"] == WIDTH - 1
    assert [bar["title"] for bar in bars] == ["0 to 1: 5", "1 to 2: 0", "2 to 4: 10"]


def test_one_value_among_millions_can_still_be_seen() -> None:
    assert histogram_bars([0.0, 1.0, 2.0], [1, 10_000_000])[0]["height"] == 1


@pytest.mark.parametrize(("counts", "expected"), [([], []), ([0], [0]), ([4, 1], [100, 25])])
def test_the_longest_bar_is_the_measure(counts: list[int], expected: list[float]) -> None:
    assert shares(counts) == expected
