from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from farandole.training.checkpoint import format
from farandole.training.checkpoint.format import (
    DamagedCheckpointError,
    decode_meta,
    encode_meta,
    read_state,
    write_state,
)


def test_a_state_is_read_as_it_was_written_and_torch_reads_it_too(tmp_path: Path) -> None:
    state = {"w": torch.tensor([0.1, float("nan")], dtype=torch.bfloat16), "groups": [{"lr": 0.1}], "n": 2**60}
    path = tmp_path / "state.pt"
    described = write_state(path, state)
    content = path.read_bytes()
    assert described == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    for again in (read_state(path, described), torch.load(path, weights_only=True)):
        torch.testing.assert_close(again, state, equal_nan=True)


def test_large_tensors_are_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(format, "_CHUNK_BYTES", 1000)
    state = {"w": torch.arange(5000)}
    described = write_state(tmp_path / "state.pt", state)
    assert torch.equal(read_state(tmp_path / "state.pt", described)["w"], state["w"])


def test_an_object_is_not_read_even_with_the_right_digest(tmp_path: Path) -> None:
    described = write_state(tmp_path / "state.pt", {"evil": io.StringIO})
    with pytest.raises(DamagedCheckpointError, match="cannot be read"):
        read_state(tmp_path / "state.pt", described)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=64k tmpfs {place}"):
        pytest.skip("only root can mount a file system")
    try:
        yield place
    finally:
        os.system(f"umount --lazy {place}")


def test_a_full_disk_is_told_as_what_it_is(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        write_state(small_disk / "state.pt", {"w": torch.rand(100_000)})
    assert caught.value.errno == errno.ENOSPC


def test_no_changed_byte_of_the_meta_data_is_believed() -> None:
    meta = {"step": 60, "epoch": 6, "identity": {"dataset": "abc"}, "files": {}}
    content = encode_meta(meta)
    believed = []
    for number in range(len(content)):
        changed = content[:number] + bytes([content[number] ^ 1]) + content[number + 1 :]
        try:
            found: Any = decode_meta(changed)
        except DamagedCheckpointError:
            continue
        if found != {"format": 1, **meta}:
            believed.append(changed)
    assert believed == []
    assert decode_meta(content) == {"format": 1, **meta}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is no JSON"),
        (b"[]", "does not match its checksum"),
        (b'{"step": 5}', "does not match its checksum"),
        (b"\xff\xfe", "is no JSON"),
    ],
)
def test_what_is_no_meta_data_is_damage(content: bytes, problem: str) -> None:
    with pytest.raises(DamagedCheckpointError, match=problem):
        decode_meta(content)


def test_another_format_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(format, "FORMAT", 7)
    content = encode_meta({"step": 5})
    monkeypatch.undo()
    with pytest.raises(DamagedCheckpointError, match="is of format 7, and this Farandole reads format 1"):
        decode_meta(content)
