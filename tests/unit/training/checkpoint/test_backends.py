"""Checkpoints as directories: they appear complete or not at all, whatever happens to the writer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from farandole.training.checkpoint import backends, open_backend, read_checkpoint
from farandole.training.checkpoint.backends import DirectoryBackend, sort_newest_first, unused_name
from farandole.training.checkpoint.format import DamagedCheckpointError, write_state


def put(backend: DirectoryBackend, step: int, **state: Any) -> str:
    return backend.put({"w": torch.full((2,), float(step)), **state}, {"step": step, "identity": "mine"})


def test_checkpoint_is_read_as_written(tmp_path: Path) -> None:
    backend = DirectoryBackend(tmp_path / "new")
    assert put(backend, 20, more=1) == "step-000000020"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["step-000000020"]
    meta = backend.meta("step-000000020")
    assert meta["step"] == 20
    assert list(meta["files"]) == ["state.pt"]
    assert backend.state("step-000000020", meta)["more"] == 1
    assert read_checkpoint(tmp_path / "new")["w"].tolist() == [20, 20]


def test_empty_directory_has_no_checkpoints(tmp_path: Path) -> None:
    assert open_backend(tmp_path / "none").names() == []
    with pytest.raises(FileNotFoundError, match="none: contains no checkpoint"):
        read_checkpoint(tmp_path / "none")


def test_names_are_sorted_by_step_and_number() -> None:
    names = ["step-000000005", "step-1000000000", "step-000000005-10", "step-000000005-2", "steps", ".step-1.tmp"]
    assert sort_newest_first(names) == ["step-1000000000", "step-000000005-10", "step-000000005-2", "step-000000005"]
    assert unused_name(5, set(names)) == "step-000000005-3"
    assert unused_name(6, set(names)) == "step-000000006"


def test_existing_checkpoint_is_never_replaced(tmp_path: Path) -> None:
    backend = DirectoryBackend(tmp_path)
    put(backend, 5, which=1)
    assert put(backend, 5, which=2) == "step-000000005-2"
    assert [backend.state(name, backend.meta(name))["which"] for name in backend.names()] == [2, 1]


def test_name_that_another_training_takes_during_the_write_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = DirectoryBackend(tmp_path)
    names: list[str] = []

    def write_after_another(path: Path, state: dict[str, Any]) -> dict[str, Any]:
        monkeypatch.undo()
        names.append(put(backend, 50, number=1))
        return write_state(path, state)

    monkeypatch.setattr(backends, "write_state", write_after_another)
    names.append(put(backend, 50, number=2))
    assert names == ["step-000000050", "step-000000050-2"]
    assert [backend.state(name, backend.meta(name))["number"] for name in names] == [1, 2]
    assert len(list(tmp_path.iterdir())) == 2


def test_failed_write_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = DirectoryBackend(tmp_path)
    put(backend, 5)

    def full(state: object, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        put(backend, 6)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000005"]


def test_incomplete_checkpoint_is_not_listed_and_is_cleaned_up(tmp_path: Path) -> None:
    backend = DirectoryBackend(tmp_path)
    put(backend, 5)
    (tmp_path / ".step-0123.tmp").mkdir()
    (tmp_path / ".step-0123.tmp" / "state.pt").write_bytes(b"half")
    assert backend.names() == ["step-000000005"]
    backend.clean_up()
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000005"]


@pytest.mark.parametrize(
    "damage", ["flip", "cut", "empty", "no state", "no meta", "cut meta", "empty meta", "list meta", "wrong digest"]
)
def test_damage_is_detected(tmp_path: Path, damage: str) -> None:
    backend = DirectoryBackend(tmp_path)
    name = put(backend, 6)
    state, meta = tmp_path / name / "state.pt", tmp_path / name / "meta.json"
    content, text = state.read_bytes(), meta.read_text()
    middle = len(content) // 2
    damages: dict[str, Callable[[], object]] = {
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
    }
    damages[damage]()
    with pytest.raises(DamagedCheckpointError):
        backend.state(name, backend.meta(name))
