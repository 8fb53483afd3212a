from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from farandole.defaults import TABULAR, Table, resolve_for
from farandole.jobdir.directory import save_spec
from farandole.spec import Job, parse_job, with_overrides
from farandole.tracking.run_link import RunLink
from farandole.tracking.run_summary import MAX_DESCRIPTION, changed_params, describe_column, describe_version, name_run

RAW: dict[str, Any] = {
    "name": "taxi",
    "data": {
        "sources": {"trips": {"path": "/data/trips.csv", "columns": {"fare": "double", "zone": "string"}}},
        "features": {"fare": {"kind": "numeric", "log": True}, "zone": {"kind": "categorical"}},
        "label": {"column": "paid", "kind": "binary"},
    },
    "model": {"builder": "farandole.models.mlp:build", "options": {"hidden": [8]}},
}


def _job(**train: Any) -> Job:
    return parse_job({**RAW, "train": train})


def _link(command: str | None = None, parent: str | None = None) -> RunLink:
    return RunLink("key", 1_800_000_000_000, "sqlite:///a.db", parent, command)


def test_only_fields_that_differ_from_their_defaults_are_params() -> None:
    assert changed_params(_job(epochs=3, optimizer={"learning_rate": 0.5})) == {
        "data.sources.trips": "/data/trips.csv",
        "data.features": "fare (numeric), zone (categorical)",
        "data.label": "paid (binary)",
        "model.builder": "farandole.models.mlp:build",
        "model.options.hidden": "[8]",
        "train.epochs": "3",
        "train.optimizer.learning_rate": "0.5",
    }


def test_where_a_job_runs_and_is_recorded_is_not_a_param() -> None:
    raw = {**RAW, "tracking": {"experiment": "mine"}, "backend": {"kubernetes": {"namespace": "ours"}}}
    raw["serve"] = {"port": 9000}
    assert changed_params(parse_job(raw)) == changed_params(_job())


def test_a_run_is_named_by_its_time(tmp_path: Path) -> None:
    assert re.fullmatch(r"[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d", name_run(_job(), tmp_path / "taxi-2", _link()))


@pytest.mark.parametrize(
    ("command", "changes"),
    [
        ("farandole run taxi.yaml --set train.epochs=3 --set=train.optimizer.learning_rate=0.1",
         "epochs=3, learning_rate=0.1"),
        ("farandole run 'a b.yaml' --set 'data.query=SELECT  fare\nFROM trips WHERE fare > 0'",
         "query=SELECT fare FROM trips…"),
    ],
)  # fmt: skip
def test_a_run_is_named_by_what_its_command_changes(tmp_path: Path, command: str, changes: str) -> None:
    assert name_run(_job(), tmp_path / "taxi-2", _link(command)).partition(" · ")[2] == changes


def test_a_run_is_named_by_what_differs_from_the_job_before_it(tmp_path: Path) -> None:
    for name, job in (("taxi-20260101-1", _job(epochs=9)), ("taxi-20260102-1", _job(epochs=2))):
        (tmp_path / name).mkdir()
        save_spec(tmp_path / name, job)
    directory = tmp_path / "taxi-20260103-1"
    assert name_run(_job(epochs=2), directory, _link()).partition(" · ")[2] == ""
    assert name_run(_job(epochs=4), directory, _link()).partition(" · ")[2] == "epochs=4"
    assert name_run(_job(), directory, _link()).partition(" · ")[2] == "epochs=default"


def test_a_trial_is_named_by_its_number_and_values(tmp_path: Path) -> None:
    save_spec(tmp_path, _job())
    trial = parse_job({**RAW, "name": "taxi-trial-7", "train": {"optimizer": {"learning_rate": 0.25}}})
    link = _link("farandole sweep taxi.yaml", str(tmp_path))
    assert name_run(trial, tmp_path / "taxi-trial-7-1", link) == "trial 7 · learning_rate=0.25"


def test_a_trial_with_defaults_in_place_of_auto_is_named_by_what_the_sweep_has_drawn(tmp_path: Path) -> None:
    space = {
        "train.optimizer.learning_rate": {"low": 0.001, "high": 0.1, "log": True},
        "model.options.width": {"choices": [64, 128]},
        "train.clip_norm": {"choices": [None, 1.0]},
    }
    raw = {**RAW, "model": {"builder": TABULAR}}
    save_spec(tmp_path, parse_job({**raw, "sweep": {"space": space}}))
    names = []
    for number, (rate, width) in enumerate([(0.0123456, 64), (0.05, 128)]):
        drawn = {"train.optimizer.learning_rate": rate, "model.options.width": width, "train.clip_norm": 1.0}
        trial = with_overrides(parse_job({**raw, "name": f"taxi-trial-{number}"}), drawn)
        resolved = resolve_for(trial, Table(rows=1000, label="binary"))
        names.append(name_run(resolved, tmp_path / f"taxi-trial-{number}-1", _link(None, str(tmp_path))))
    assert names == [
        "trial 0 · learning_rate=0.01235, width=64, clip_norm=1",
        "trial 1 · learning_rate=0.05, width=128, clip_norm=1",
    ]


def test_a_sweep_is_named_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", str(tmp_path))
    assert name_run(_job(), tmp_path / "sweeps" / "taxi-1", _link()).startswith("sweep ")


def test_names_are_short(tmp_path: Path) -> None:
    changes = " ".join(f"--set data.features.feature_{number}.column={'x' * 50}" for number in range(9))
    assert len(name_run(_job(), tmp_path / "taxi-2", _link(f"farandole run taxi.yaml {changes}"))) <= 70


def test_columns_have_the_types_of_mlflow() -> None:
    assert describe_column("a", "bigint") == {"type": "long", "name": "a", "required": False}
    assert describe_column("a", "decimal(8,2)")["type"] == "double"
    assert describe_column("a", "timestamp_ntz")["type"] == "datetime"
    nested = {"type": "array", "items": {"type": "double"}}
    assert describe_column("a", "array<array<double>>") == {
        "type": "array", "items": nested, "name": "a", "required": False,
    }  # fmt: skip


def test_description_of_a_version_is_its_card_and_the_command() -> None:
    assert describe_version("# taxi\n", None) == "# taxi\n"
    assert describe_version("# taxi\n", "farandole run `job.yaml`") == "# taxi\n\n- command: `farandole run job.yaml`\n"


@pytest.mark.parametrize("command", [None, "farandole run job.yaml", "x" * 9000])
def test_long_description_of_a_version_ends_after_a_line_and_names_the_card(command: str | None) -> None:
    lines = [f"- note {number}: " + "é" * 90 for number in range(100)]
    found = describe_version("\n".join(lines), command)
    assert 0.9 * MAX_DESCRIPTION < len(found) <= MAX_DESCRIPTION
    kept, mark, rest = found.partition(
        "\n… The rest is in `card.md` of the model's bundle: `farandole models card MODEL`"
    )
    assert mark
    assert set(kept.splitlines()) <= set(lines)
    assert ("- command: `" in rest) is (command is not None)
