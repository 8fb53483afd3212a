from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from farandole.errors import UserError
from farandole.privacy.policies import Protection
from farandole.serving.service.logs import JsonLog
from farandole.serving.service.payload_log import PayloadLog, protection_of
from farandole.spec import Drop, Mask
from tests.support.served import make_bundle

PREDICTIONS = {"prediction": np.array(["yes", "no"], dtype=object), "probability": np.array([0.9, 0.1])}
BATCH = pa.record_batch({"name": ["Ada Lovelace", None], "card": ["4111", "5500"], "x": [1.0, 2.0]})
POLICIES: dict[str, Any] = {"name": Drop(policy="drop"), "card": Mask(policy="mask", keep_last=2)}


def test_rows_are_written_after_their_policies_and_only_whole_files_appear(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        log = PayloadLog(tmp_path, executor, JsonLog(io.BytesIO()), rows=4)
        for _ in range(3):
            log.add("flights", "3", Protection(POLICIES), BATCH, PREDICTIONS)
        log.close()
    files = sorted(tmp_path.rglob("*.*"))
    assert [path.suffix for path in files] == [".parquet"] * 2
    assert all(path.parent == tmp_path / "flights" / "3" for path in files)
    table = pa.concat_tables([pq.read_table(path, partitioning=None) for path in files])
    assert table.num_rows == 6
    assert table.column_names == ["card", "x", "prediction_time", "prediction", "probability"]
    assert table["card"].to_pylist() == ["**11", "**00"] * 3
    assert b"Lovelace" not in b"".join(path.read_bytes() for path in files)


def test_old_rows_are_written_without_new_ones(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        log = PayloadLog(tmp_path, executor, JsonLog(io.BytesIO()), seconds=0.0)
        log.add("flights", "3", Protection({}), BATCH, PREDICTIONS)
        log.write_old()
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_disk_that_cannot_be_written_is_reported_and_nothing_else_fails(tmp_path: Path) -> None:
    (tmp_path / "flights").write_text("a file where a folder should be")
    stream = io.BytesIO()
    with ThreadPoolExecutor(1) as executor:
        log = PayloadLog(tmp_path, executor, JsonLog(stream), rows=2)
        log.add("flights", "3", Protection({}), BATCH, PREDICTIONS)
    assert b"payload_log_failed" in stream.getvalue()
    assert b"4111" not in stream.getvalue()


def test_policies_are_those_of_the_job_in_the_bundle(tmp_path: Path) -> None:
    privacy = {"columns": {"carrier": {"policy": "drop"}}}
    documents = {"lineage.json": {"job": {"data": {"privacy": privacy}}}}
    bundle = make_bundle(tmp_path / "with", documents=documents)
    assert protection_of(bundle).policies == {"carrier": Drop(policy="drop")}


def test_bundle_without_policies_is_not_logged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lineage\.json"):
        protection_of(make_bundle(tmp_path / "without", documents={"lineage.json": {}}))
