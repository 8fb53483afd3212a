"""Checkpoints in a real S3 store."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from farandole.errors import StorageAccessError, StorageError
from farandole.process.retry import Backoff
from farandole.storage import object_store
from farandole.training.checkpoint import CheckpointManager, open_backend, read_checkpoint
from tests.support.object_store import FaultyProxy, Folder


def put(manager: CheckpointManager, step: int) -> str:
    return manager.put({"model": {"w": torch.full((2,), float(step))}}, {"step": step})


def newest(manager: CheckpointManager) -> tuple[int | None, list[str]]:
    warnings: list[str] = []
    found = manager.load_newest(warnings.append, lambda state: None)
    return (found.meta["step"] if found else None), warnings


def test_checkpoints_are_kept_and_read_in_an_object_store(s3: Folder) -> None:
    manager = CheckpointManager(open_backend(s3.uri), "mine", keep=2)
    manager.clean_up()
    for step in (5, 6, 7, 7):
        put(manager, step)
    assert s3.names() == [f"{name}/{file}" for name in ("step-000000006", "step-000000007-2")
                          for file in ("meta.json", "state.pt")]  # fmt: skip
    assert newest(CheckpointManager(open_backend(s3.uri), "mine", keep=2)) == (7, [])
    assert read_checkpoint(s3.uri)["model"]["w"].tolist() == [7, 7]


def test_incomplete_upload_is_not_listed_and_is_cleaned_up(s3: Folder) -> None:
    manager = CheckpointManager(open_backend(s3.uri), "mine", keep=2)
    put(manager, 5)
    s3.put("step-000000006/state.pt", b"half")
    assert newest(manager) == (5, [])
    manager.clean_up()
    assert s3.names() == ["step-000000005/meta.json", "step-000000005/state.pt"]


def test_damaged_checkpoints_are_skipped_with_a_warning(s3: Folder) -> None:
    manager = CheckpointManager(open_backend(s3.uri), "mine", keep=3)
    for step in (5, 6, 7):
        put(manager, step)
    state = bytearray(s3.get("step-000000007/state.pt"))
    state[len(state) // 2] ^= 1
    s3.put("step-000000007/state.pt", bytes(state))
    meta: dict[str, Any] = json.loads(s3.get("step-000000006/meta.json"))
    s3.put("step-000000006/meta.json", json.dumps({**meta, "step": 8}).encode())
    found, warnings = newest(manager)
    assert found == 5
    assert warnings == [
        f"{s3.uri}/step-000000007: does not match its digest; skipped",
        f"{s3.uri}/step-000000006: cannot be read (meta.json does not match its checksum); skipped",
    ]


def test_failing_store_keeps_the_older_checkpoint(
    proxy: FaultyProxy, s3: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "BACKOFF", Backoff(0.01, 0.01))
    manager = CheckpointManager(open_backend(s3.uri), "mine", keep=2)
    put(manager, 5)
    proxy.inject("500", method="PUT")
    with pytest.raises(StorageError, match=r"step-000000006/state\.pt: could not be written in 5 tries"):
        put(manager, 6)
    proxy.stop()
    assert s3.names() == ["step-000000005/meta.json", "step-000000005/state.pt"]


def test_missing_bucket_is_reported_before_training(s3: Folder) -> None:
    with pytest.raises(StorageAccessError, match="there is no bucket nowhere"):
        open_backend("s3://nowhere/checkpoints").clean_up()
