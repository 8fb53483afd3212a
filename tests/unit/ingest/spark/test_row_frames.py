"""Readers of sources, made without a Spark session."""

from __future__ import annotations

from pathlib import Path

import pytest

from farandole.errors import DataError
from farandole.ingest.sources.files import SourceFiles
from farandole.ingest.spark.row_frames import make_reader
from farandole.spec import JsonSource


@pytest.mark.parametrize("text", ["[]", " [ \n ] \n", ""])
def test_json_without_any_object_is_reported(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"^data\.sources\.rows: the files hold no object with a member; check them$"):
        make_reader(None, "rows", JsonSource(path=str(path)), SourceFiles("rows", (path,)))
