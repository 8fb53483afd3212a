from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from farandole.training import checkpoint
from farandole.training.checkpoint import Checkpoint, load_newest, save, weights_digest


def made(step: int, **state: Any) -> Checkpoint:
    """A checkpoint of a step."""
    return Checkpoint(step, step // 10, {"model": {"w": torch.full((2, 2), float(step))}, **state})


def names(directory: Path) -> list[str]:
    """What lies in the directory."""
    return sorted(path.name for path in directory.iterdir())


def newest(directory: Path, identity: str = "mine") -> tuple[int | None, list[str]]:
    """The step that would be resumed, and the warnings."""
    warnings: list[str] = []
    found = load_newest(directory, identity, warnings.append)
    return (found.step if found else None), warnings


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    optimizer = {"state": {0: {"exp_avg": torch.tensor([0.1, float("nan")])}}, "param_groups": [{"lr": 0.1}]}
    place = save(tmp_path / "new", made(20, optimizer=optimizer, random=torch.get_rng_state()), "mine", keep=2)
    assert place == tmp_path / "new" / "step-000000020"
    warnings: list[str] = []
    found = load_newest(tmp_path / "new", "mine", warnings.append)
    assert warnings == []
    assert found is not None
    assert (found.step, found.epoch) == (20, 2)
    torch.testing.assert_close(found.state["model"]["w"], torch.full((2, 2), 20.0))
    torch.testing.assert_close(found.state["optimizer"], optimizer, equal_nan=True)
    assert torch.equal(found.state["random"], torch.get_rng_state())


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert newest(tmp_path) == (None, [])
    assert newest(tmp_path / "none") == (None, [])


def test_the_newest_ones_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100, 1000):
        save(tmp_path, made(step), "mine", keep=2)
    assert names(tmp_path) == ["step-000000100", "step-000001000"]
    assert newest(tmp_path) == (1000, [])


def test_a_step_that_is_saved_again_replaces_the_old_one(tmp_path: Path) -> None:
    save(tmp_path, made(5), "mine", keep=2)
    save(tmp_path, made(5, more=1), "mine", keep=2)
    found = load_newest(tmp_path, "mine", pytest.fail)
    assert found is not None
    assert found.state["more"] == 1
    assert names(tmp_path) == ["step-000000005"]


def test_a_save_that_fails_leaves_no_trace_and_the_old_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, made(5), "mine", keep=2)

    def full(state: object, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, made(5), "mine", keep=2)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, made(6), "mine", keep=2)
    assert names(tmp_path) == ["step-000000005"]
    assert newest(tmp_path) == (5, [])


def test_a_half_written_directory_of_a_dead_worker_is_not_looked_at(tmp_path: Path) -> None:
    save(tmp_path, made(5), "mine", keep=2)
    (tmp_path / ".step-000000006.0123.tmp").mkdir()
    (tmp_path / ".step-000000006.0123.tmp" / "state.pt").write_bytes(b"half")
    assert newest(tmp_path) == (5, [])


@pytest.mark.parametrize(
    "damage", ["flip", "cut", "empty", "no state", "no meta", "cut meta", "empty meta", "list meta"]
)
def test_a_damaged_one_is_passed_over_with_a_warning(tmp_path: Path, damage: str) -> None:
    save(tmp_path, made(5), "mine", keep=3)
    place = save(tmp_path, made(6), "mine", keep=3)
    state, meta = place / "state.pt", place / "meta.json"
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
    }[damage]()
    step, warnings = newest(tmp_path)
    assert step == 5
    assert len(warnings) == 1
    assert str(place) in warnings[0]
    assert "passed over" in warnings[0]


def test_no_changed_byte_of_the_meta_data_is_believed(tmp_path: Path) -> None:
    place = save(tmp_path, made(60), "mine", keep=2)
    meta = place / "meta.json"
    content = meta.read_bytes()
    believed = []
    for number in range(len(content)):
        meta.write_bytes(content[:number] + bytes([content[number] ^ 1]) + content[number + 1 :])
        try:
            found = load_newest(tmp_path, "mine", lambda text: None)
        except Exception as error:  # noqa: BLE001 - whatever is raised, it ought to be a warning
            believed.append(f"{meta.read_text()}: {type(error).__name__}")
            continue
        if found is not None and (found.step, found.epoch) != (60, 6):
            believed.append(f"{meta.read_text()}: {found.step}, {found.epoch}")
    assert believed == []


def test_with_all_damaged_there_is_none_and_each_is_named(tmp_path: Path) -> None:
    for step in (5, 6):
        (save(tmp_path, made(step), "mine", keep=2) / "state.pt").write_bytes(b"x")
    step, warnings = newest(tmp_path)
    assert step is None
    assert ["step-000000006" in warnings[0], "step-000000005" in warnings[1]] == [True, True]


def test_one_of_another_training_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    save(tmp_path, made(5), "mine", keep=3)
    save(tmp_path, made(6), "other", keep=3)
    step, warnings = newest(tmp_path)
    assert step == 5
    assert len(warnings) == 1
    assert "belongs to another dataset, model or way of training; it is passed over" in warnings[0]


def test_those_of_another_training_do_not_push_out_ours(tmp_path: Path) -> None:
    for step in (1000, 2000):
        save(tmp_path, made(step), "other", keep=2)
    for step in (10, 20):
        save(tmp_path, made(step), "mine", keep=2)
    assert newest(tmp_path)[0] == 20


def test_the_digest_of_the_state_is_in_the_meta_data(tmp_path: Path) -> None:
    meta = json.loads((save(tmp_path, made(5), "mine", keep=1) / "meta.json").read_text())
    assert (meta["step"], meta["epoch"], meta["identity"]) == (5, 0, "mine")
    assert len(meta["sha256"]) == 64


# The digest of weights ----------------------------------------------------------------------------------------


def test_weights_that_are_the_same_have_one_digest() -> None:
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1)}
    again = {"b": torch.tensor(1), "a": torch.arange(6.0).reshape(3, 2).T.reshape(2, 3)}
    again["a"] = torch.arange(6.0).reshape(2, 3).T.contiguous().T
    assert not again["a"].is_contiguous()
    assert weights_digest(weights) == weights_digest(again)
    assert len(weights_digest(weights)) == 64


def test_name_shape_type_and_every_bit_enter_the_digest() -> None:
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


def test_weights_that_learn_have_a_digest() -> None:
    layer = torch.nn.Linear(2, 2)
    assert weights_digest(dict(layer.named_parameters())) == weights_digest(layer.state_dict())
