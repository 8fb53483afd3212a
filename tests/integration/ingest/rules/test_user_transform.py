from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark import cloudpickle

from farandole.errors import DataError
from farandole.ingest.cache_key import compute_cache_key
from farandole.pipeline import check_transform
from farandole.planning import plan
from tests.support.ingest_inputs import MakeJob, Prepare, Refuse, Write, columns, shard_bytes

FEATURES = {"doubled": {"kind": "numeric", "scale": "none"}, "color": {"kind": "categorical"}}
HOOK = """
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType

from factors import times


def clean(frame, least=0):
    print("not for standard output")
    doubled = F.udf(lambda size: times(size), DoubleType())
    return frame.where(F.col("id") >= least).withColumn("doubled", doubled("size"))
"""


@pytest.fixture
def hook(write: Write) -> Any:
    """Return the function that writes the module of the transform, and one that it imports."""

    def hook(text: str = HOOK, factors: str = "def times(size):\n    return size * 2\n") -> None:
        write()
        write("clean.py", text)
        write("factors.py", factors)

    return hook


def test_transform_is_applied_between_query_and_features(
    hook: Any, make_job: MakeJob, prepare: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    hook()
    job = make_job({"transform": "clean:clean", "transform_options": {"least": 10}, "features": FEATURES})
    assert plan(job).problems == ()
    prepared = prepare(job)
    assert "not for standard output" not in capsys.readouterr().out
    found = np.concatenate([columns(prepared.path, split)["dense"][:, 0] for split in prepared.manifest.splits])
    assert sorted(found.tolist()) == [float(number) for number in range(10, 60)]
    assert prepared.manifest.transform is not None
    assert prepared.manifest.transform["function"] == "clean:clean"
    assert prepared.manifest.transform["options"] == {"least": 10}
    assert prepare(job).reused
    shards = shard_bytes(prepared.path)

    # The present texts of its modules decide, although Spark's workers have imported the old ones.
    hook(factors="def times(size):\n    return size * 4\n")
    again = prepare(job)
    assert not again.reused
    assert again.manifest.transform != prepared.manifest.transform
    found = np.concatenate([columns(again.path, split)["dense"][:, 0] for split in again.manifest.splits])
    assert sorted(found.tolist()) == [2.0 * number for number in range(10, 60)]
    hook()
    assert shard_bytes(prepare(job).path).items() >= shards.items()
    assert cloudpickle.list_registry_pickle_by_value() == set()
    assert str(Path(job.folder or "")) not in sys.path


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("    return frame.undefined_method()", r"raised PySparkAttributeError: Attribute"),
        ("    raise ValueError('no luck')", "raised ValueError: no luck"),
        ("    return frame.select('nothing')", r"raised AnalysisException: A column, variable"),
        ("    return frame.missing(", r"'\(' was never closed"),
    ],
)
def test_error_of_the_transform_is_reported_with_file_and_line(
    hook: Any, make_job: MakeJob, refuse: Refuse, body: str, text: str
) -> None:
    hook(f"def clean(frame):\n{body}\n")
    error = refuse(make_job({"transform": "clean:clean"}))
    assert isinstance(error, DataError)
    assert str(error).startswith("data.transform: clean:clean: ")
    assert re.search(text, str(error))
    assert "clean.py, line 2" in str(error)


def test_error_of_the_transform_in_a_worker_is_reported_with_file_and_line(
    hook: Any, make_job: MakeJob, refuse: Refuse
) -> None:
    hook(factors="def times(size):\n    if size > 20:\n        raise KeyError('too much')\n    return size\n")
    error = refuse(make_job({"transform": "clean:clean", "features": FEATURES}))
    assert str(error).startswith("data.transform: clean:clean: raised KeyError: 'too much' in ")
    assert str(error).endswith("factors.py, line 3")


@pytest.mark.parametrize("where", ["driver", "worker"])
def test_error_of_the_transform_on_protected_columns_is_reported_without_its_text(
    hook: Any, make_job: MakeJob, refuse: Refuse, where: str
) -> None:
    raising = "raise ValueError('%s is 8451' % 'Quinlan')"
    if where == "driver":
        hook(f"def clean(frame):\n    {raising}\n")
    else:
        hook(factors=f"def times(size):\n    {raising}\n")
    privacy = {"columns": {"id": {"policy": "mask"}}}
    error = refuse(make_job({"transform": "clean:clean", "features": FEATURES, "privacy": privacy}))
    assert "raised ValueError (its text may contain values, and data.privacy protects columns of this job)" in str(
        error
    )
    assert "line 2" in str(error)
    assert "Quinlan" not in f"{error} {error.detail}"
    assert "8451" not in f"{error} {error.detail}"
    assert error.__cause__ is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def clean(frame):\n    return 7", "returned int; return a Spark DataFrame"),
        ("def clean(frame):\n    pass", "returned NoneType; return a Spark DataFrame"),
        (
            "from pyspark.sql import functions as F\ndef clean(frame):\n    return frame.withColumn('x', F.rand())",
            "data.transform: clean:clean: uses a function whose value changes",
        ),
        (
            "def clean(frame):\n    return frame.selectExpr('*', 'size')",
            "data.transform: clean:clean: gives size twice",
        ),
        ("import nowhere_at_all", "cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("def claen(frame):\n    return frame", "has no function clean; define it"),
        ("def clean(frame):\n    return frame.drop('size')", "data.features.size: the query gives no column size"),
    ],
)
def test_result_that_cannot_become_a_dataset_is_refused(
    hook: Any, make_job: MakeJob, refuse: Refuse, text: str, message: str
) -> None:
    hook(text)
    assert message in str(refuse(make_job({"transform": "clean:clean"})))


def test_function_is_found_without_importing_its_module(hook: Any, make_job: MakeJob) -> None:
    hook("raise SystemExit\ndef claen(frame): ...")
    job = make_job({"transform": "clean:clean"})
    with pytest.raises(DataError, match=r"clean\.py has no function clean; did you mean claen\?"):
        check_transform(job)
    assert "did you mean claen?" in plan(job).problems[0]
    check_transform(make_job({"transform": "clean:claen"}))


def test_options_and_source_change_the_cache_key(hook: Any, make_job: MakeJob) -> None:
    hook()

    def digest(**options: Any) -> str:
        job = make_job({"transform": "clean:clean", "transform_options": options})
        return compute_cache_key(job.data, {}, job.folder)

    first = digest()
    assert digest(least=1) != first
    hook(factors="def times(size):\n    return size\n")
    assert digest() != first
