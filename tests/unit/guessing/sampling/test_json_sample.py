"""JSON files, read like Parquet files with the same rows."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.guesses import guess_file, kinds_of, left_out_of


def test_parquet_and_json_are_read(tmp_path: Path) -> None:
    rows = [
        {"x": n / 3, "word": "uv"[n % 2], "when": f"2024-01-{1 + n % 28:02d}", "y": n % 3 == 0, "part": {"a": 1}}
        for n in range(90)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "array.json").write_text(json.dumps(rows))
    for name in ("t.parquet", "t.jsonl"):
        found = guess_file(tmp_path / name, "y")
        assert {"x": "numeric", "word": "categorical"}.items() <= kinds_of(found).items()
        assert "select its parts" in left_out_of(found)["part"]
        assert found.label.kind == "binary"
    assert kinds_of(guess_file(tmp_path / "t.jsonl", "y"))["when"] == "time"
