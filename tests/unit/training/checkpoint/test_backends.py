"""Checkpoints as directories: they appear whole, whatever happens to the one that writes."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from farandole.training.checkpoint import format, open_backend, read_checkpoint
from farandole.training.checkpoint.backends import DirectoryBackend, sort_newest_first, unused_name
from farandole.training.checkpoint.format import DamagedCheckpointError
from farandole.training.checkpoint.manager import CheckpointManager


def put(store: DirectoryBackend, step: int, **state: Any) -> str:
    return store.put({"w": torch.full((2,), float(step)), **state}, {"step": step, "identity": "mine"})


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = DirectoryBackend(tmp_path / "new")
    assert put(store, 20, more=1) == "step-000000020"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["step-000000020"]
    meta = store.meta("step-000000020")
    assert meta["step"] == 20
    assert list(meta["files"]) == ["state.pt"]
    assert store.state("step-000000020", meta)["more"] == 1
    assert read_checkpoint(tmp_path / "new")["w"].tolist() == [20, 20]


def test_without_checkpoints_there_are_no_names(tmp_path: Path) -> None:
    assert open_backend(tmp_path / "none").names() == []
    with pytest.raises(FileNotFoundError, match="none: no checkpoint lies there"):
        read_checkpoint(tmp_path / "none")


def test_names_are_sorted_by_step_and_by_number() -> None:
    names = ["step-000000005", "step-1000000000", "step-000000005-10", "step-000000005-2", "steps", ".step-1.tmp"]
    assert sort_newest_first(names) == ["step-1000000000", "step-000000005-10", "step-000000005-2", "step-000000005"]
    assert unused_name(5, set(names)) == "step-000000005-3"
    assert unused_name(6, set(names)) == "step-000000006"


def test_one_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    store = DirectoryBackend(tmp_path)
    put(store, 5, which=1)
    assert put(store, 5, which=2) == "step-000000005-2"
    assert [store.state(name, store.meta(name))["which"] for name in store.names()] == [2, 1]


def test_a_write_that_fails_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryBackend(tmp_path)
    put(store, 5)

    def full(state: object, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(format.torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        put(store, 6)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000005"]


def test_what_a_dead_writer_left_is_not_listed_and_is_tidied_up(tmp_path: Path) -> None:
    store = DirectoryBackend(tmp_path)
    put(store, 5)
    (tmp_path / ".step-0123.tmp").mkdir()
    (tmp_path / ".step-0123.tmp" / "state.pt").write_bytes(b"half")
    assert store.names() == ["step-000000005"]
    store.tidy()
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000005"]


@pytest.mark.parametrize(
    "damage", ["flip", "cut", "empty", "no state", "no meta", "cut meta", "empty meta", "list meta", "wrong digest"]
)
def test_damage_is_noticed(tmp_path: Path, damage: str) -> None:
    store = DirectoryBackend(tmp_path)
    name = put(store, 6)
    state, meta = tmp_path / name / "state.pt", tmp_path / name / "meta.json"
    content, text = state.read_bytes(), meta.read_text()
    middle = len(content) // 2
    {
        "flip": lambda: state.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]),
        "cut": lambda: state.write_bytes(content[:-10]),
        "empty": lambda: state.write_bytes(b""),
        "no state": state.unlink,
        "no meta": meta.unlink,
        "cut meta": lambda: meta.write_text(text[:-5]),
        "empty meta": lambda: meta.write_text(""),
        "list meta": lambda: meta.write_text("[]"),
        "wrong digest": lambda: meta.write_text(
            text.replace(json.loads(text)["files"]["state.pt"]["sha256"], "0" * 64)
        ),
    }[damage]()
    with pytest.raises(DamagedCheckpointError):
        store.state(name, store.meta(name))


def test_a_writer_that_is_killed_at_any_moment_leaves_a_whole_newest_one(tmp_path: Path) -> None:
    """Twenty times: a process saves in a loop and is killed; the newest is what it last reported, or newer."""
    chance = random.Random(17)
    num_newer_steps = 0
    step = 0
    for _ in range(20):
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            _save_for_ever(tmp_path, step, write_end)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as reports:
            first = reports.readline()  # at least one is whole, so the kill falls somewhere into the work on the next
            time.sleep(chance.uniform(0, 0.1))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            reported = int([first, *reports.readlines()][-1])
        warnings: list[str] = []
        found = _shelf(tmp_path).newest(warnings.append, lambda state: None)
        assert warnings == []
        assert found is not None
        assert found.meta["step"] >= reported > step
        assert all(torch.all(value == found.meta["step"]) for value in found.state["model"].values())
        num_newer_steps += found.meta["step"] - step
        step = found.meta["step"]
    DirectoryBackend(tmp_path).tidy()
    assert len(list(tmp_path.iterdir())) <= 4  # two are kept; a kill may fall before the old ones are removed
    assert num_newer_steps >= 20


def _shelf(directory: Path) -> CheckpointManager:
    return CheckpointManager(DirectoryBackend(directory), "mine", keep=2)


def _save_for_ever(directory: Path, step: int, reports: int) -> None:
    try:
        shelf = _shelf(directory)
        shelf.tidy()
        while True:
            step += 1
            shelf.put({"model": {f"w{number}": torch.full((20_000,), step) for number in range(5)}}, {"step": step})
            os.write(reports, f"{step}\n".encode())
    finally:
        os._exit(1)
