"""The pipeline with a real preparation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from farandole import pipeline
from farandole.shards import MANIFEST_NAME
from farandole.spec import Job
from tests.support.opened import FirstWorkerError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.slow
def test_run_that_prepares_opens_each_source_once_and_reads_the_manifest_at_most_twice(
    spark: SparkSession, make_job: Callable[..., Job], opened: Counter[str], tmp_path: Path
) -> None:
    checked = pipeline.check(make_job(data__output=str(tmp_path / "new")))
    with pytest.raises(FirstWorkerError):
        pipeline.run(checked)
    assert opened.pop(MANIFEST_NAME) <= 2
    assert opened == {"source things": 1, "cache key": 1}
