"""Functions for training scripts, outside a job and with a stop request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from farandole import Checkpoint, report
from farandole.errors import ModelError
from farandole.training import script_session
from farandole.training.script_session import ScriptSession
from farandole.training.stop import Stopped
from farandole.training.world import World


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(script_session, "_session", None)


def test_saved_state_is_loaded_by_the_next_start(tmp_path: Path) -> None:
    assert Checkpoint.load() is None
    state = {"weights": {"w": torch.arange(3.0)}, "epoch": 2, "names": ["a", None]}
    Checkpoint.save({**state, "epoch": 1}, step=10)
    Checkpoint.save(state, step=20)
    found = Checkpoint.load()
    assert found is not None
    assert found.step == 20
    assert found.state["epoch"] == 2
    assert found.state["names"] == ["a", None]
    assert torch.equal(found.state["weights"]["w"], torch.arange(3.0))
    assert (tmp_path / "checkpoints").is_dir()


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ({"model": torch.nn.Linear(1, 1)}, r"state\['model'\] is of type Linear"),
        ({"a": [{"b": np.zeros(2)}]}, r"state\['a'\]\[0\]\['b'\] is of type ndarray"),
    ],
)
def test_state_that_could_not_be_read_back_is_rejected(state: dict[str, Any], place: str) -> None:
    with pytest.raises(ModelError, match=rf"farandole\.Checkpoint\.save: {place}; save tensors and plain values"):
        Checkpoint.save(state, step=1)
    assert Checkpoint.load() is None


def test_requested_stop_ends_the_script_when_it_has_saved(tmp_path: Path) -> None:
    session = ScriptSession(World(0, 1, 0, 1), tmp_path / "saved", {}, keep=1)
    with script_session.opened(session):
        assert not Checkpoint.is_stop_requested()
        Checkpoint.save({"epoch": 1}, step=1)
        session.switch.request()
        with pytest.raises(Stopped) as stopped:
            Checkpoint.save({"epoch": 2}, step=2)
        assert stopped.value.step == 2
        found = Checkpoint.load()
    assert found is not None
    assert found.state == {"epoch": 2}


def test_checkpoint_of_another_dataset_is_skipped_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for digest in ("a", "b"):
        session = ScriptSession(World(0, 1, 0, 1), tmp_path / "saved", {"dataset": digest}, keep=1)
        with script_session.opened(session):
            assert Checkpoint.load() is None
            Checkpoint.save({"epoch": 1}, step=1)
    assert "belongs to another dataset" in capsys.readouterr().out


def test_report_is_printed_outside_a_job(capsys: pytest.CaptureFixture[str]) -> None:
    report(7, loss=0.25, accuracy=1)
    assert capsys.readouterr().out == "step 7: loss 0.25, accuracy 1\n"
