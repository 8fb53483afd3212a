from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.loader.bench import OWN_SYSTEMS, PEERS, LoaderBench, bench_loader
from benchmarks.machine import importable
from tests.support.paths import ROOT

FIGURES = {"rows_per_s", "mb_per_s", "peak_rss_mb", "beyond_torch_mb", "first_batch_ms"}


@pytest.mark.slow
def test_own_systems_read_every_row_of_the_case() -> None:
    events: list[Any] = []
    document = bench_loader(LoaderBench(cases=["table"], systems=OWN_SYSTEMS, rows=3_000, repeats=1), events.append)
    assert document["machine"]["cores"] >= 1
    results = {result["system"]: result for result in document["results"]}
    assert list(results) == list(OWN_SYSTEMS)
    for result in results.values():
        assert (result["case"], result["rows"]) == ("table", 3_000)
        assert all(result[figure] > 0 for figure in FIGURES)
    assert results["farandole"]["resume_ms"] > 0
    assert results["memcpy"]["resume_ms"] is None
    assert len(events) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS)
def test_peer_reads_every_row_of_the_case(peer: str) -> None:
    if not importable({peer: peer}):
        pytest.skip(f"{peer} is not installed next to Farandole")
    bench = LoaderBench(cases=["table"], systems=[peer], rows=3_000, peer_rows=2_000, repeats=1)
    (result,) = bench_loader(bench)["results"]
    assert result["rows"] == 2_000
    assert all(result[figure] > 0 for figure in FIGURES)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["--json", "--markdown"])
def test_command_prints_nothing_but_its_document(form: str) -> None:
    command = [sys.executable, "-m", "benchmarks", "loader", "--quick", "--case", "table", "--rows", "2000"]
    systems = ["--system", "memcpy", "--system", "farandole"]
    done = subprocess.run([*command, *systems, form], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "table: farandole" in done.stderr
    if form == "--json":
        assert {result["system"] for result in json.loads(done.stdout)["results"]} == {"memcpy", "farandole"}
    else:
        lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
        assert len(lines) == 4
        assert len({line.count("|") for line in lines}) == 1
