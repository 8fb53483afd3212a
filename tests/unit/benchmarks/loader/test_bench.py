"""Options of the loader benchmark."""

from __future__ import annotations

import pytest

from benchmarks.loader.bench import LoaderBench, bench_loader
from benchmarks.machine import importable
from farandole.errors import SpecError, UnavailableError


@pytest.mark.parametrize(
    ("bench", "problem"),
    [
        (LoaderBench(cases=["tabel"]), "--case: tabel: unknown; did you mean table?"),
        (LoaderBench(systems=["memcopy"]), "--system: memcopy: unknown; did you mean memcpy?"),
    ],
)
def test_unknown_name_is_rejected_with_the_closest_one(bench: LoaderBench, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        bench_loader(bench)
    assert str(caught.value) == problem


def test_requested_peer_must_be_installed() -> None:
    if importable({"streaming": "streaming"}):
        pytest.skip("streaming is installed beside Farandole")
    with pytest.raises(UnavailableError, match="--system: streaming: not installed in"):
        bench_loader(LoaderBench(systems=["streaming"]))


def test_missing_interpreter_is_reported() -> None:
    with pytest.raises(UnavailableError, match="--peers-python: /no/python: No such file"):
        bench_loader(LoaderBench(peers_python="/no/python"))
