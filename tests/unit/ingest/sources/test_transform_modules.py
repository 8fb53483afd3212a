from __future__ import annotations

from pathlib import Path

import pytest

from farandole.errors import DataError
from farandole.ingest.sources.transform_modules import transform_digest, transform_modules


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_imported_modules_beside_the_job_file_belong_to_the_transform(tmp_path: Path) -> None:
    write(
        tmp_path,
        clean="import os, json, one\nfrom two import three\ndef run(frame):\n    import pack.late\n",
        one="from pyspark.sql import functions",
        two="import one, clean",
        pack____init__="",
        pack__late="from . import sibling\nfrom .other import x",
        pack__sibling="",
        pack__other="x = 1",
        unused="",
    )
    (tmp_path / "pack" / "__init__.py").write_text("")
    found = transform_modules("clean:run", tmp_path)
    assert next(iter(found)) == "clean"
    assert set(found) == {"clean", "one", "two", "pack", "pack.late", "pack.sibling", "pack.other"}
    assert found["pack.late"] == tmp_path / "pack" / "late.py"


def test_changed_module_changes_the_digest(tmp_path: Path) -> None:
    write(tmp_path, clean="import one", one="x = 1", unused="y = 1")
    first = transform_digest(transform_modules("clean:run", tmp_path))
    write(tmp_path, unused="y = 2")
    assert transform_digest(transform_modules("clean:run", tmp_path)) == first
    write(tmp_path, one="x = 2")
    assert transform_digest(transform_modules("clean:run", tmp_path)) != first


def test_missing_or_invalid_module_is_reported(tmp_path: Path) -> None:
    write(tmp_path, clean="import broken", broken="x = (\n")
    with pytest.raises(DataError, match=r"data\.transform: claen:run: there is no module claen; did you mean clean\?"):
        transform_modules("claen:run", tmp_path)
    with pytest.raises(DataError, match=r"there is no module nothing; put nothing\.py beside the job file"):
        transform_modules("nothing:run", tmp_path)
    with pytest.raises(DataError, match=r"data\.transform: clean:run: .*broken\.py, line 1: '\(' was never closed"):
        transform_modules("clean:run", tmp_path)
