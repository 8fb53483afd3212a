from __future__ import annotations

import pytest

from benchmarks.ingest.bench import OWN_SYSTEMS, IngestBench, bench_ingest


@pytest.mark.slow(seconds=50)
def test_all_systems_write_the_same_number_of_rows() -> None:
    document = bench_ingest(IngestBench(systems=OWN_SYSTEMS, quick=True, memory="1g"))
    results = {result["system"]: result for result in document["results"]}
    assert list(results) == list(OWN_SYSTEMS)
    # The query leaves out flights that were cancelled or diverted.
    assert 19_000 < results["farandole"]["rows"] < 20_000
    assert len({result["rows"] for result in results.values()}) == 1
    for result in results.values():
        assert all(result[figure] > 0 for figure in ("rows_per_s", "mb_per_s", "cpu_s", "peak_rss_mb", "written_mb"))
        assert result["with_start_s"] > result["seconds"]
