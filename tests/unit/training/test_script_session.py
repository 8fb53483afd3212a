"""Functions for training scripts, outside a job and with a stop request."""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from farandole import Checkpoint, report
from farandole.errors import ModelError
from farandole.training import script_session
from farandole.training.script_session import ScriptSession
from farandole.training.stop import Stopped
from farandole.training.world import World


class Point(NamedTuple):
    """A tuple with names."""

    x: int
    y: int


class Rows(list[int]):
    """A list of another type."""


class Image(torch.Tensor):
    """A tensor of another type."""


class Colour(enum.Enum):
    """A key."""

    RED = 1


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
        ({"counts": defaultdict(int, a=1)}, r"state\['counts'\] is of type defaultdict"),
        ({"place": Point(1, 2)}, r"state\['place'\] is of type Point"),
        ({"rows": Rows([1])}, r"state\['rows'\] is of type Rows"),
        ({"by_row": {np.int64(3): 1.0}}, r"the key .*3.* of state\['by_row'\] is of type int64"),
        ({"by_colour": {Colour.RED: 1.0}}, r"the key <Colour.RED: 1> of state\['by_colour'\] is of type Colour"),
        ({"by_pair": {(1, np.int64(3)): 1.0}}, r"the key .* of state\['by_pair'\]\[1\] is of type int64"),
        ({"seen": frozenset([1])}, r"state\['seen'\] is of type frozenset"),
        ({"rate": np.float64(0.1)}, r"state\['rate'\] is of type float64"),
        ({"empty": b""}, r"state\['empty'\] is empty bytes"),
        ({"image": torch.zeros(1).as_subclass(Image)}, r"state\['image'\] is of type Image"),
    ],
)
def test_state_that_could_not_be_read_back_is_rejected(state: dict[str, Any], place: str) -> None:
    with pytest.raises(
        ModelError, match=rf"farandole\.Checkpoint\.save: {place}, which cannot be read back; save tensors"
    ):
        Checkpoint.save(state, step=1)
    assert Checkpoint.load() is None


def test_every_accepted_type_is_read_back() -> None:
    state = {
        "plain": [None, True, 1, 2**80, 0.5, 1j, "a", b"a", torch.Size([1]), torch.float16, torch.device("cpu")],
        "counted": Counter("aab"),
        "ordered": OrderedDict(b=(1, {2, 3})),
        "keys": {1: 1, 0.5: 1, None: 1, (1, "a"): 1, b"a": 1, torch.float32: 1},
        "model": torch.nn.Linear(2, 1).state_dict(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "sparse": torch.eye(2).to_sparse(),
    }
    Checkpoint.save(state, step=1)
    found = Checkpoint.load()
    assert found is not None
    assert {name: found.state[name] for name in ("plain", "counted", "ordered", "keys")} == {
        name: state[name] for name in ("plain", "counted", "ordered", "keys")
    }
    assert torch.equal(found.state["parameter"], torch.ones(2))


def test_checkpoint_that_cannot_be_read_back_is_skipped_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script_session, "_find_unsavable", lambda value, path: None)
    Checkpoint.save({"place": Point(1, 2)}, step=1)
    assert Checkpoint.load() is None
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("cannot be read back: it holds an object that is neither a tensor nor a plain value; skipped")


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
