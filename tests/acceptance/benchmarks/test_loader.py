from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.loader.bench import OURS, PEERS, LoaderBench, bench_loader
from benchmarks.machine import importable
from farandole.errors import SpecError, UnavailableError

FIGURES = {"rows_per_s", "mb_per_s", "peak_rss_mb", "beyond_torch_mb", "first_batch_ms"}


@pytest.mark.slow
def test_our_systems_read_every_row_of_the_case() -> None:
    told: list[Any] = []
    document = bench_loader(LoaderBench(cases=["table"], systems=OURS, rows=3_000, repeats=1), told.append)
    assert document["machine"]["cores"] >= 1
    results = {result["system"]: result for result in document["results"]}
    assert list(results) == list(OURS)
    for result in results.values():
        assert (result["case"], result["rows"]) == ("table", 3_000)
        assert all(result[figure] > 0 for figure in FIGURES)
    assert results["farandole"]["resume_ms"] > 0
    assert results["memcpy"]["resume_ms"] is None
    assert len(told) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_reads_every_row_of_the_case(peer: str) -> None:
    if not importable({peer: peer}):
        pytest.skip(f"{peer} is not installed beside Farandole")
    bench = LoaderBench(cases=["table"], systems=[peer], rows=3_000, peer_rows=2_000, repeats=1)
    (result,) = bench_loader(bench)["results"]
    assert result["rows"] == 2_000
    assert all(result[figure] > 0 for figure in FIGURES)


@pytest.mark.parametrize(
    ("bench", "problem"),
    [
        (LoaderBench(cases=["tabel"]), "--case: tabel: unknown; did you mean table?"),
        (LoaderBench(systems=["memcopy"]), "--system: memcopy: unknown; did you mean memcpy?"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(bench: LoaderBench, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        bench_loader(bench)
    assert str(caught.value) == problem


def test_a_peer_that_is_asked_for_must_be_there() -> None:
    if importable({"streaming": "streaming"}):
        pytest.skip("streaming is installed beside Farandole")
    with pytest.raises(UnavailableError, match="--system: streaming: not installed in"):
        bench_loader(LoaderBench(systems=["streaming"]))


def test_an_interpreter_that_is_not_there_is_named() -> None:
    with pytest.raises(UnavailableError, match="--peers-python: /no/python: No such file"):
        bench_loader(LoaderBench(peers_python="/no/python"))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["--json", "--markdown"])
def test_the_command_prints_only_its_document(form: str) -> None:
    command = [sys.executable, "-m", "farandole", "bench", "loader", "--quick", "--case", "table", "--rows", "2000"]
    systems = ["--system", "memcpy", "--system", "farandole"]
    done = subprocess.run([*command, *systems, form], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "table: farandole" in done.stderr
    if form == "--json":
        assert {result["system"] for result in json.loads(done.stdout)["results"]} == {"memcpy", "farandole"}
    else:
        lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
        assert len(lines) == 4
        assert len({line.count("|") for line in lines}) == 1
