"""The plots of a sweep."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from farandole.spec import Dimension
from farandole.sweeping import plots
from farandole.sweeping.trial import Trial

SPACE = {
    "train.optimizer.learning_rate": Dimension(low=1e-4, high=0.1, log=True),
    "model.options.hidden": Dimension(choices=([64], [128, 64])),
    "train.epochs": Dimension(low=3, high=3),
}


def _trials(count: int) -> list[Trial]:
    random = np.random.default_rng(0)
    return [
        Trial(
            number,
            "pruned" if number % 3 == 2 else "complete",
            float(random.random()),
            {
                "train.optimizer.learning_rate": float(10 ** random.uniform(-4, -1)),
                "model.options.hidden": [[64], [128, 64]][number % 2],
                "train.epochs": 3,
            },
            f"job-{number}",
            None,
            1.0,
        )
        for number in range(count)
    ]


def _size(figure: Figure, path: Path) -> tuple[int, int]:
    image = io.BytesIO()
    figure.savefig(image, format="png")
    path.write_bytes(image.getvalue())
    return Image.open(image).size


@pytest.mark.parametrize("count", [1, 2, 12])
def test_each_trial_is_drawn_as_a_line_through_its_values(tmp_path: Path, count: int) -> None:
    trials = _trials(count)
    figure = plots.parallel_coordinates(trials, SPACE, "roc_auc", "maximize")
    assert _size(figure, tmp_path / "plot.png")[0] > 600
    axes = figure.axes[0]
    lines = [line for line in axes.lines if len(np.asarray(line.get_xdata())) == 4]
    assert len(lines) == count
    assert all(0 <= height <= 1 for line in lines for height in np.asarray(line.get_ydata(), dtype=float))
    best = max(trials, key=lambda trial: trial.value or 0)
    last = np.asarray(lines[-1].get_ydata(), dtype=float)
    assert last[1] == [[64], [128, 64]].index(best.values["model.options.hidden"])
    assert last[2] == 0.5
    dashed = [line for line in lines if line.get_linestyle() == "--"]
    assert len(dashed) == sum(trial.state == "pruned" for trial in trials)


def test_importances_are_drawn_as_bars_with_their_shares(tmp_path: Path) -> None:
    figure = plots.importances({"train.epochs": 0.75, "train.seed": 0.25}, "roc_auc")
    assert _size(figure, tmp_path / "plot.png")[0] > 600
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0.25, 0.75]  # type: ignore[attr-defined]
    assert {text.get_text() for text in figure.axes[0].texts} == {"75%", "25%"}
