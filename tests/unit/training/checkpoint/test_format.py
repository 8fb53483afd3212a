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

from farandole.training.checkpoint import format as checkpoint_format
from farandole.training.checkpoint import weights_digest
from farandole.training.checkpoint.format import (
    DamagedCheckpointError,
    decode_meta,
    encode_meta,
    read_state,
    write_state,
)


def test_state_is_read_as_written_and_by_torch(tmp_path: Path) -> None:
    state = {"w": torch.tensor([0.1, float("nan")], dtype=torch.bfloat16), "groups": [{"lr": 0.1}], "n": 2**60}
    path = tmp_path / "state.pt"
    described = write_state(path, state)
    content = path.read_bytes()
    assert described == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    for again in (read_state(path, described), torch.load(path, weights_only=True)):
        torch.testing.assert_close(again, state, equal_nan=True)


def test_large_tensors_are_written_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_format, "_CHUNK_BYTES", 1000)
    state = {"w": torch.arange(5000)}
    described = write_state(tmp_path / "state.pt", state)
    assert torch.equal(read_state(tmp_path / "state.pt", described)["w"], state["w"])


def test_object_is_not_unpickled_even_with_the_right_digest(tmp_path: Path) -> None:
    described = write_state(tmp_path / "state.pt", {"evil": io.StringIO})
    with pytest.raises(DamagedCheckpointError, match="cannot be read"):
        read_state(tmp_path / "state.pt", described)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 64 KiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=64k tmpfs {directory}"):
        pytest.skip("only root can mount a file system")
    try:
        yield directory
    finally:
        os.system(f"umount --lazy {directory}")


def test_full_disk_is_reported_as_such(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        write_state(small_disk / "state.pt", {"w": torch.rand(100_000)})
    assert caught.value.errno == errno.ENOSPC


def test_every_changed_byte_of_the_metadata_is_detected() -> None:
    meta = {"step": 60, "epoch": 6, "identity": {"dataset": "abc"}, "files": {}}
    content = encode_meta(meta)
    undetected = []
    for number in range(len(content)):
        changed = content[:number] + bytes([content[number] ^ 1]) + content[number + 1 :]
        try:
            found: Any = decode_meta(changed)
        except DamagedCheckpointError:
            continue
        if found != {"format": 1, **meta}:
            undetected.append(changed)
    assert undetected == []
    assert decode_meta(content) == {"format": 1, **meta}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not JSON"),
        (b"[]", "does not match its checksum"),
        (b'{"step": 5}', "does not match its checksum"),
        (b"\xff\xfe", "is not JSON"),
    ],
)
def test_invalid_metadata_is_reported_as_damage(content: bytes, problem: str) -> None:
    with pytest.raises(DamagedCheckpointError, match=problem):
        decode_meta(content)


def test_other_format_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_format, "FORMAT", 7)
    content = encode_meta({"step": 5})
    monkeypatch.undo()
    with pytest.raises(DamagedCheckpointError, match="has format 7, and this version reads format 1"):
        decode_meta(content)


# Digest of weights -------------------------------------------------------------------------------------------


def test_equal_weights_have_the_same_digest() -> None:
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1)}
    again = {"b": torch.tensor(1), "a": torch.arange(6.0).reshape(3, 2).T.reshape(2, 3)}
    again["a"] = torch.arange(6.0).reshape(2, 3).T.contiguous().T
    assert not again["a"].is_contiguous()
    assert weights_digest(weights) == weights_digest(again)
    assert len(weights_digest(weights)) == 64


def test_digest_depends_on_name_shape_type_and_every_bit() -> None:
    base = torch.zeros(2, 3)
    others = [
        {"b": base},
        {"a": base.reshape(3, 2)},
        {"a": base.reshape(6)},
        {"a": base.double()},
        {"a": base.int()},
        {"a": -base},
        {"a": base + 1e-45},
        {"a": base, "b": base},
        {"a": base[:1], "b": base[:1]},
        {},
    ]
    assert len({weights_digest({"a": base}), *(weights_digest(other) for other in others)}) == len(others) + 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.int64, torch.uint8])
def test_all_types_have_a_digest(dtype: torch.dtype) -> None:
    digests = {weights_digest({"a": torch.tensor(values).to(dtype)}) for values in ([0, 1], [1, 0], [], 1)}
    assert len(digests) == 4


def test_trainable_weights_have_a_digest() -> None:
    layer = torch.nn.Linear(2, 2)
    assert weights_digest(dict(layer.named_parameters())) == weights_digest(layer.state_dict())
