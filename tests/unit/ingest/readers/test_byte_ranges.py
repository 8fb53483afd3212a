"""Text files, divided among tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from farandole.ingest.readers import byte_ranges
from farandole.ingest.readers.byte_ranges import divide_into_tasks


@pytest.fixture
def ranges_of_kib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make byte ranges of 1 to 8 KiB."""
    monkeypatch.setattr(byte_ranges, "_MIN_RANGE_BYTES", 1024)
    monkeypatch.setattr(byte_ranges, "_MAX_RANGE_BYTES", 8192)
    monkeypatch.setattr(byte_ranges, "_FILE_COST_BYTES", 8)


def sized(folder: Path, *sizes: int) -> tuple[Path, ...]:
    paths = []
    for number, size in enumerate(sizes):
        path = folder / f"{number}.csv"
        path.write_bytes(b"1234567\n" * (size // 8))
        paths.append(path)
    return tuple(paths)


@pytest.mark.usefixtures("ranges_of_kib")
@pytest.mark.parametrize(
    ("sizes", "parallelism", "tasks"),
    [
        ([800], 2, 1),
        ([1400], 2, 2),
        ([2048], 2, 2),
        ([16_000], 2, 2),
        ([17_000], 2, 4),
        ([40_000], 2, 6),
        ([40_000], 4, 8),
        ([40_000], 100, 40),
        ([4000] * 5, 2, 4),
        ([13_000, 19_000, 18_000], 4, 8),
        ([8000, 0, 2000], 2, 2),
        ([10], 0, 1),
    ],
)
def test_every_core_gets_the_same_number_of_tasks_of_equal_length(
    tmp_path: Path, sizes: list[int], parallelism: int, tasks: int
) -> None:
    paths = sized(tmp_path, *sizes)
    found = divide_into_tasks(paths, parallelism, splittable=True)
    lengths = [sum((part.stop or 0) - part.start for part in parts) for parts in found]
    # A file is not cut within 8 bytes of its end.
    assert tasks <= len(found) <= tasks + 1
    assert len(found) == tasks or min(lengths) < 100
    assert max(lengths) <= -(-sum(lengths) // tasks) + 8 * len(sizes)
    for path in paths:
        parts = [part for parts in found for part in parts if part.path == path]
        assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
        assert parts[-1].stop == path.stat().st_size


@pytest.mark.usefixtures("ranges_of_kib")
def test_small_files_are_read_whole_by_few_tasks(tmp_path: Path) -> None:
    paths = sized(tmp_path, *[96] * 40)
    found = divide_into_tasks(paths, 2, splittable=True)
    assert len(found) <= 3
    assert [part.path for parts in found for part in parts] == list(paths)


@pytest.mark.usefixtures("ranges_of_kib")
def test_file_that_cannot_be_split_is_one_byte_range(tmp_path: Path) -> None:
    (parts,) = divide_into_tasks(sized(tmp_path, 40_000), 2, splittable=False)
    assert [(part.start, part.stop) for part in parts] == [(0, None)]
