"""From a file that nobody has described to a registered model: `init`, then `run`, with no edit between them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image

from tests.support.command import document, farandole
from tests.support.odd_tables import write_table

pytestmark = pytest.mark.slow


def _run(*arguments: object) -> dict[str, dict[str, float]]:
    made = document("init", *arguments)
    metrics: dict[str, dict[str, float]] = document("run", made["job_file"])["training"]["metrics"]
    return metrics


def _house(source: random.Random, number: int) -> str:
    size, town = source.uniform(30, 200), source.choice(["Aachen", "Köln", "Ulm"])
    built = source.choice(["NA", str(source.randint(1900, 2020))])
    price = 1000 * size * {"Aachen": 2, "Köln": 3, "Ulm": 1}[town] + source.gauss(0, 2000)
    return f'"{number + 1}";{size:.1f};{town};{built};{price:.0f}'


def test_table_in_another_language_becomes_a_regression(home: Path, tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "häuser.csv", '"nr";"größe";"stadt";"baujahr";"preis"', _house, 1500, encoding="latin-1"
    )
    metrics = _run(path, "--label", "preis", "--output", tmp_path / "job")
    assert metrics["test"]["r2"] > 0.9


def test_folders_of_images_become_classes(home: Path, tmp_path: Path) -> None:
    source = random.Random(0)
    for name, channel in (("blue", 2), ("red", 0)):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(60):
            colour = [source.randint(0, 80) for _ in range(3)]
            colour[channel] += 150
            Image.new("RGB", (24, 24), tuple(colour)).save(tmp_path / "in" / name / f"{number}.png")
    metrics = _run(tmp_path / "in", "--output", tmp_path / "job")
    assert metrics["test"]["accuracy"] > 0.9


def test_label_that_is_not_there_ends_before_anything_is_written(home: Path, tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", '"nr";"groesse";"stadt";"baujahr";"preis"', _house, 100)
    done = farandole("init", path, "--label", "prise", "--output", tmp_path / "job")
    assert done.returncode == 2
    assert done.stderr == "farandole: --label prise: there is no such column; did you mean preis?\n"
    assert not (tmp_path / "job").exists()
