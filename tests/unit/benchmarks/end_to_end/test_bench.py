"""Arithmetic of the end-to-end benchmark, without running its systems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.end_to_end import bench
from benchmarks.end_to_end.bench import BEFORE, BEFORE_REPEAT, FARANDOLE, REPEAT, EndToEndBench, bench_end_to_end
from benchmarks.end_to_end.observed_command import Observed
from farandole.errors import SpecError

_SECONDS = {FARANDOLE: [10.0, 30.0], REPEAT: [4.0, 15.0], "boosting": [8.0, 20.0], "ddp": [40.0, 60.0]}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the systems' processes by fixed times."""
    left = {system: list(values) for system, values in _SECONDS.items()}

    def run(options: EndToEndBench, system: str, *_: Any) -> Observed:
        seconds = left[system].pop(0)
        if system in (FARANDOLE, REPEAT):
            output = '{"training": {"metrics": {"test": {"roc_auc": 0.81}}}, "dataset": {"digest": "abc"}}'
        else:
            output = '{"metrics": {"roc_auc": 0.8}}'
        return Observed(seconds, 2 * seconds, {"training": seconds / 2}, output)

    monkeypatch.setattr(bench, "_run_farandole", run)
    monkeypatch.setattr(bench, "_run_baseline", lambda options, case, system, folder: run(options, system))


@pytest.mark.usefixtures("runs")
def test_ratios_are_medians_of_the_pairs_of_each_round() -> None:
    document = bench_end_to_end(EndToEndBench(cases=["small"], systems=list(_SECONDS), repeats=2))
    by_system = {result["system"]: result for result in document["results"]}
    assert by_system["ddp"]["ratios"] == [0.25, 0.5]
    assert by_system["ddp"]["ratio"] == 0.375
    assert by_system[FARANDOLE]["repeat_ratio"] == 0.45
    assert "ratio" not in by_system[REPEAT]
    assert by_system[FARANDOLE]["seconds"] == 20.0
    assert by_system[FARANDOLE]["dataset_digest"] == "abc"


def test_baselines_of_pandas_always_take_part() -> None:
    assert {"boosting", "ddp"} <= set(bench._systems(EndToEndBench(), lambda event: None))


def test_repeat_brings_the_run_that_it_repeats() -> None:
    assert bench._systems(EndToEndBench(systems=[REPEAT]), lambda event: None) == [FARANDOLE, REPEAT]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (EndToEndBench(systems=[BEFORE]), "--before DIR"),
        (EndToEndBench(before=Path("/nowhere")), "run `make setup` there first"),
        (EndToEndBench(cases=["flight"]), "did you mean flights"),
    ],
)
def test_impossible_options_are_rejected(options: EndToEndBench, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        bench_end_to_end(options)


def test_before_is_measured_if_there_is_another_checkout(tmp_path: Path) -> None:
    command = tmp_path / ".venv" / "bin" / "farandole"
    command.parent.mkdir(parents=True)
    command.touch()
    assert {BEFORE, BEFORE_REPEAT} <= set(bench._systems(EndToEndBench(before=tmp_path), lambda event: None))


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("[   0.7 s] prepare: starting Spark\n", "start of Spark"),
        ("[  12.0 s] train: starting 2 workers\n", "start of workers"),
        ("[  20.0 s] register: models:/flights/1\n", "exit"),
        ("[  20.0 s] epoch 1 of 8: validation roc_auc 0.7\n", None),
    ],
)
def test_stages_are_found_in_the_lines_of_progress(line: str, part: str | None) -> None:
    assert bench._stage_of(line) == part
