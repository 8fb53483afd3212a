from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from farandole.ingest.cache_key import CODE_PACKAGES, UNINVOLVED
from tests.support.ingest_inputs import MakeJob, Write

_NOTEBOOK = """
import farandole
from pyspark.sql import SparkSession

spark = farandole.start_spark(master="local[1]", memory="1g")
assert SparkSession.getActiveSession() is spark
assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
print(spark.range(7).count())
spark.stop()
"""


@pytest.mark.slow
def test_exploration_session_is_quiet_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _NOTEBOOK],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert (done.stdout, done.stderr) == ("7\n", "")
    assert list(tmp_path.glob("farandole-spark-*")) == []


_OWN_SPARK = """
import json, sys
from pathlib import Path
import psutil
from farandole.ingest.prepare import prepare
from farandole.spec import load_job

prepared = prepare(load_job(sys.argv[1]))
left = [child.name() for child in psutil.Process().children(recursive=True) if child.name() == "java"]
packages = sorted({name.split(".")[1] for name in sys.modules if name.startswith("farandole.")})
print(json.dumps({"rows": prepared.manifest.row_counts, "left": left, "packages": packages}))
"""


@pytest.mark.slow
def test_own_spark_ends_with_the_preparation(make_job: MakeJob, write: Write, tmp_path: Path) -> None:
    write()
    make_job({"master": "local[1]", "memory": "1g"})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _OWN_SPARK, str(tmp_path / "job.yaml")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    document = json.loads(done.stdout)
    assert document["left"] == []
    assert set(document["rows"]) == {"train", "validation", "test"}
    assert set(document["packages"]) <= {*CODE_PACKAGES, *UNINVOLVED}
    assert not list(scratch.glob("farandole-spark-*"))
    assert done.stderr == ""
