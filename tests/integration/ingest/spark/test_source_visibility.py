from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from farandole.errors import UnavailableError
from farandole.ingest.sources.files import SourceFiles
from farandole.ingest.spark.source_visibility import check_source_visibility, hosts_missing_file
from farandole.spec import CsvSource
from tests.support.ingest_inputs import Write

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class HereOnly(type(Path())):  # type: ignore[misc]
    """A path that only the driver sees: in Spark's workers it becomes the path of a missing file."""

    def __reduce__(self) -> Any:
        return Path, (f"{self}.elsewhere",)


def test_machine_that_does_not_see_a_file_is_named(spark: SparkSession, write: Write) -> None:
    path = write()
    assert hosts_missing_file(spark, path) == []
    assert hosts_missing_file(spark, HereOnly(path)) == [socket.gethostname()]


def test_remote_executors_need_the_files_and_local_ones_have_them(
    spark: SparkSession, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = HereOnly(write())
    files = {"rows": SourceFiles("rows", (path,))}
    sources = {"rows": CsvSource(path=str(path))}
    check_source_visibility(spark, files, sources)
    monkeypatch.setattr(spark.sparkContext, "master", "spark://chief:7077")
    with pytest.raises(UnavailableError, match=r"small\.csv of data\.sources\.rows is not on .*; put the sources"):
        check_source_visibility(spark, files, sources)
