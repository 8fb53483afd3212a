"""The handover of a program that another rank exports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from farandole.bundle.program import program_source, save_program
from farandole.jobdir.layout import PROGRAM, PROGRAM_STATE
from farandole.process.atomic import write_json
from farandole.training.program_export import clear_program, has_exporter, is_exporter, shared_program, take_program
from farandole.training.world import World

TWO_ON_A_HOST = [World(rank, 2, rank, 2) for rank in range(2)]
TWO_HOSTS = [World(rank, 2, 0, 1) for rank in range(2)]


def _offer(directory: Path, digest: str | None) -> None:
    (directory / PROGRAM).write_bytes(b"exported")
    write_json(directory / PROGRAM_STATE, {"weights_digest": digest})


@pytest.mark.parametrize(
    ("gang", "exporters"),
    [
        (TWO_ON_A_HOST, [1]),
        (TWO_HOSTS, []),
        ([World(0, 1, 0, 1)], []),
        ([World(rank, 4, rank % 2, 2) for rank in range(4)], [1]),
    ],
)
def test_second_rank_exports_if_it_is_on_the_host_of_rank_zero(gang: list[World], exporters: list[int]) -> None:
    assert [each.rank for each in gang if is_exporter(each)] == exporters
    assert [each.rank for each in gang if has_exporter(each)] == ([0] if exporters else [])


def test_program_of_the_same_weights_is_moved(tmp_path: Path) -> None:
    _offer(tmp_path, "abc")
    taken = tmp_path / "bundle.pt2"
    assert take_program(tmp_path, "abc", taken)
    assert taken.read_bytes() == b"exported"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle.pt2"]


@pytest.mark.parametrize("digest", ["other", None])
def test_program_of_other_weights_or_none_is_left_and_removed(tmp_path: Path, digest: str | None) -> None:
    _offer(tmp_path, digest)
    assert not take_program(tmp_path, "abc", tmp_path / "bundle.pt2")
    assert list(tmp_path.iterdir()) == []


def test_missing_or_damaged_program_is_not_taken(tmp_path: Path) -> None:
    assert not take_program(tmp_path, "abc", tmp_path / "bundle.pt2", timeout_s=0.0)
    write_json(tmp_path / PROGRAM_STATE, {"weights_digest": "abc"})
    assert not take_program(tmp_path, "abc", tmp_path / "bundle.pt2")
    (tmp_path / PROGRAM_STATE).write_text("{")
    assert not take_program(tmp_path, "abc", tmp_path / "bundle.pt2")


def test_rank_zero_says_that_it_no_longer_waits(tmp_path: Path) -> None:
    assert not take_program(tmp_path, "abc", tmp_path / "bundle.pt2", timeout_s=0.0)
    assert [path.name for path in tmp_path.iterdir()] == [PROGRAM_STATE]


def test_program_of_an_earlier_attempt_is_removed(tmp_path: Path) -> None:
    _offer(tmp_path, "abc")
    clear_program(tmp_path)
    clear_program(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bundle_of_rank_zero_gets_the_shared_program(tmp_path: Path) -> None:
    _offer(tmp_path, "abc")
    with shared_program(TWO_ON_A_HOST[0], tmp_path, "abc"):
        save_program(nn.Identity(), {}, tmp_path / "bundle.pt2")
    assert (tmp_path / "bundle.pt2").read_bytes() == b"exported"


def test_source_of_programs_ends_with_its_block(tmp_path: Path) -> None:
    asked: list[str] = []

    def source(name: str) -> Callable[[Path], bool]:
        def take(path: Path) -> bool:
            asked.append(f"{name}: {path.name}")
            return True

        return take

    with program_source(source("outer")):
        with program_source(source("inner")):
            save_program(nn.Identity(), {}, tmp_path / "first")
        save_program(nn.Identity(), {}, tmp_path / "second")
    assert asked == ["inner: first", "outer: second"]
