"""Set-up of the archive of Spark's classes: `python -m farandole.ingest.class_archive`.

It runs a small preparation that touches what real ones do (readers, joins, functions of SQL, hashes, the cache, the
exchange between tasks) in a Java process that writes an archive of all classes it has loaded when it ends. A failure is
not an error: Spark starts without the archive, only more slowly.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from farandole.errors import FarandoleError
from farandole.ingest.spark import jvm

_DUMP_TIMEOUT_S = 300.0
_ROWS = 200
_QUERY = """
SELECT make_date(2013, p.month, 1) AS day, make_timestamp(2013, p.month, 1, p.hour, 0, 0) AS departure,
  p.hour * 60 + p.month AS minute, p.hour DIV 2 + p.hour % 5 AS rest, concat_ws(' ', p.name, c.label, p.month) AS text,
  sin(radians(p.value)) AS wave, coalesce(p.value, c.weight) AS value, CASE WHEN p.hour > 3 THEN c.weight END AS weight,
  CAST(p.hour AS double) AS exact, upper(c.label) AS label, p.time, p.value > 20 AS late
FROM people p LEFT JOIN cities c ON p.name = c.name AND p.month = c.month LEFT JOIN cities d ON p.name = d.name
WHERE p.hour IS NOT NULL
"""


def main() -> None:
    """Make the archive unless it exists."""
    archive = jvm.class_archive()
    if archive is None or not jvm.is_plain_spark():
        sys.exit("class archive: not made: there is no Java, no Spark, or another Spark is configured")
    if archive.exists():
        return
    archive.parent.mkdir(parents=True, exist_ok=True)
    for old in archive.parent.glob("spark-classes-*.jsa"):
        old.unlink()
    try:
        make_archive(archive)
    except (FarandoleError, OSError, RuntimeError) as error:
        sys.exit(f"class archive: not made ({error}); Spark starts without it")


def make_archive(archive: Path) -> None:
    """Prepare a small dataset in a Java process that writes the archive when it ends.

    Raises:
        FarandoleError: The preparation failed.
        OSError: The archive could not be written.
    """
    from farandole.ingest.prepare import prepare
    from farandole.ingest.spark.session import recording_classes
    from farandole.spec import parse_job

    with tempfile.TemporaryDirectory(prefix="farandole-classes-") as folder:
        part = archive.with_suffix(".part")
        with recording_classes(part, _DUMP_TIMEOUT_S):
            prepare(parse_job(_write_job(Path(folder)), folder=Path(folder)))
        part.rename(archive)


def _write_job(folder: Path) -> dict[str, object]:
    people = ["name,month,hour,value,time"]
    people += [
        f"n{row % 7},{row % 12 + 1},{row % 24 if row % 9 else ''},{row * 0.37:.2f},2013-01-{row % 28 + 1:02d} 10:00:00"
        for row in range(_ROWS)
    ]
    cities = ["name,month,label,weight", *(f"n{row % 7},{row % 12 + 1},l{row % 3},{row * 0.5}" for row in range(40))]
    (folder / "people.csv").write_text("\n".join(people) + "\n", encoding="utf-8")
    (folder / "cities.csv").write_text("\n".join(cities) + "\n", encoding="utf-8")
    columns = {"name": "string", "month": "int", "hour": "int", "value": "double", "time": "timestamp"}
    numbers = ("minute", "rest", "wave", "value", "weight", "exact")
    return {
        "name": "classes",
        "data": {
            "sources": {
                "people": {"path": str(folder / "people.csv"), "columns": columns},
                "cities": {"path": str(folder / "cities.csv")},
            },
            "query": _QUERY,
            "features": {
                **{name: {"kind": "numeric", "indicator": True} for name in numbers},
                "text": {"kind": "categorical"},
                "label": {"kind": "categorical"},
                "season": {"kind": "time", "column": "departure", "parts": ["month", "hour"]},
                "since": {"kind": "time", "column": "time", "parts": ["weekday"]},
            },
            "label": {"column": "late", "kind": "binary"},
            "output": str(folder / "dataset"),
        },
    }


if __name__ == "__main__":
    main()
