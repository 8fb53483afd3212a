"""Records that cannot be read: dropped or quarantined, counted by reason, whatever the partitions."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from farandole.events import Event, Message
from farandole.ingest.readers import byte_ranges
from farandole.shards import collect_garbage, read_manifest, verify
from tests.support.ingest_inputs import HEADER, SMALL, MakeJob, Prepare, Refuse, Write, shard_bytes

BAD = b'60,x,a,1\n61,1,a,1,9\n62,1,zzz\xe9,1\n63,NA,"a,1\n64,NA,b,0\n'


@pytest.mark.parametrize("policy", ["drop", "quarantine"])
def test_excluded_records_are_counted_by_reason_and_position(
    write: Write, make_job: MakeJob, prepare: Prepare, policy: str
) -> None:
    path = write("small.csv", (HEADER + SMALL).encode() + BAD)
    events: list[Event] = []
    prepared = prepare(make_job(rows={"malformed": policy}), events.append)
    clean = prepare(make_job({"output": "clean"}, rows={"path": str(write("clean.csv"))}))
    assert prepared.manifest.digest == clean.manifest.digest
    assert shard_bytes(prepared.path) == shard_bytes(clean.path)

    (entry,) = prepared.manifest.malformed
    assert (entry.source, entry.policy, entry.read, entry.rows) == ("rows", policy, 60, 5)
    found = [
        (each["reason"], each["column"], each["rows"], [place["line"] for place in each["examples"]])
        for each in entry.reasons
    ]
    assert found == [
        ("wrong number of fields", None, 1, [63]),
        ("not utf-8 text", None, 1, [64]),
        ("a quote out of place", None, 1, [65]),
        ("not double", "size", 2, [62, 66]),
    ]
    assert {place["file"] for each in entry.reasons for place in each["examples"]} == {str(path)}
    assert prepared.to_dict()["left_out"] == {"rows": 5}
    (warning,) = [event for event in events if isinstance(event, Message)]
    assert warning.level == "warning"
    assert warning.text.startswith(
        "5 of 65 rows of rows could not be read and were left out (wrong number of fields 1,"
    )
    assert (entry.quarantine is not None) == (policy == "quarantine")
    # A value may be personal: only positions and reasons enter the manifest.
    assert "zzz" not in (prepared.path / "manifest.json").read_text()  # no hexadecimal hash has a z


def test_quarantine_has_the_original_records(write: Write, make_job: MakeJob, prepare: Prepare) -> None:
    path = write("small.csv", (HEADER + SMALL).encode() + BAD)
    prepared = prepare(make_job(rows={"malformed": "quarantine"}))
    (file,) = prepared.manifest.quarantine
    assert (prepared.path / file.file).stat().st_size == file.bytes
    rows = pq.read_table(prepared.path / file.file).to_pylist()
    assert file.rows == len(rows) == 5
    assert [row["record"] for row in rows] == BAD.splitlines()
    assert [(row["source"], row["file"], row["line"]) for row in rows] == [
        ("rows", str(path), 62 + n) for n in range(5)
    ]
    assert (rows[0]["reason"], rows[0]["column"]) == ("not double", "size")
    assert not verify(prepared.path)

    (prepared.path / file.file).write_bytes(b"x")
    assert [(problem.shard, problem.text) for problem in verify(prepared.path)] == [
        (file.file, "does not match its checksum")
    ]


def test_partitions_and_byte_ranges_have_no_effect_on_excluded_records(
    write: Write, make_job: MakeJob, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:

    content = HEADER + "".join(
        f"{number},{number % 7 or 'x'},{'abc'[number % 3]},{number % 2}\n" for number in range(90)
    )
    path = write("small.csv", content)
    source = {"malformed": "quarantine", "max_malformed": 0.5}
    first = prepare(make_job({"output": "first", "partitions": 1}, rows=source))
    monkeypatch.setattr(byte_ranges, "_MIN_RANGE_BYTES", 100)
    monkeypatch.setattr(byte_ranges, "_FILE_COST_BYTES", 0)
    assert len(byte_ranges.divide_into_tasks((path,), 8, splittable=True)) == 8
    monkeypatch.setattr(byte_ranges, "_MAX_RANGE_BYTES", 100)
    second = prepare(make_job({"output": "second", "partitions": 5}, rows=source))
    assert first.manifest.digest == second.manifest.digest
    assert first.manifest.malformed == second.manifest.malformed
    assert first.manifest.malformed[0].rows == 13
    assert pq.read_table(second.path / second.manifest.quarantine[0].file)["line"].to_pylist() == list(range(2, 92, 7))


def test_more_malformed_rows_than_allowed_are_an_error(write: Write, make_job: MakeJob, refuse: Refuse) -> None:
    path = write("small.csv", HEADER + SMALL + "60,x,a,1\n" * 7)
    message = str(refuse(make_job(rows={"malformed": "drop"})))
    assert message.startswith(
        "data.sources.rows.max_malformed: 7 of 67 rows cannot be read, more than 10.00%; fix them, or allow more:\n"
        f"{path}: line 62: column size: 'x' in 7 rows is not double; if it means"
    )
    assert message.endswith("or declare the column as string")  # the source leaves them out already


def test_well_formed_source_records_that_nothing_is_left_out(write: Write, make_job: MakeJob, prepare: Prepare) -> None:
    write()
    prepared = prepare(make_job(rows={"malformed": "quarantine"}))
    (entry,) = prepared.manifest.malformed
    assert (entry.read, entry.rows, entry.reasons, entry.quarantine) == (60, 0, (), None)
    assert not (prepared.path / "quarantine").exists()


def test_old_quarantine_files_of_earlier_manifests_are_removed(
    write: Write, make_job: MakeJob, prepare: Prepare
) -> None:
    write("small.csv", HEADER + SMALL + "60,x,a,1\n")
    job = make_job(rows={"malformed": "quarantine"})
    (old,) = prepare(job).manifest.quarantine
    write("small.csv", HEADER + SMALL + "60,y,a,1\n")
    prepared = prepare(job)
    (new,) = prepared.manifest.quarantine
    assert old.file != new.file
    for file in (old, new):
        os.utime(prepared.path / file.file, (0, 0))
    assert old.file in collect_garbage(prepared.path, read_manifest(prepared.path))
    assert not (prepared.path / old.file).exists()
    assert (prepared.path / new.file).exists()


# Other formats ----------------------------------------------------------------------------------------------


def test_json_lines_that_do_not_fit_are_left_out(write: Write, make_job: MakeJob, prepare: Prepare) -> None:
    good = "".join(
        f'{{"id": {n}, "size": {n * 0.5}, "color": "{"abc"[n % 3]}", "bought": {int(n % 4 == 0)}}}\n' for n in range(60)
    )
    bad = '{"id": 60, "size": "x", "color": "a", "bought": 1}\n[1]\n{"id": 61\n'
    write("small.jsonl", good[:500] + good[500:] + bad)
    write()
    prepared = prepare(make_job(rows={"path": "small.jsonl", "malformed": "drop"}))
    assert [
        (each["reason"], each["column"], each["examples"][0]["line"]) for each in prepared.manifest.malformed[0].reasons
    ] == [
        ("not an object", None, 62),
        ("not JSON", None, 63),
        ("not double", "size", 61),
    ]
    assert shard_bytes(prepared.path) == shard_bytes(prepare(make_job({"output": "csv"})).path)


def test_declared_member_that_no_line_has_is_reported(
    write: Write, make_job: MakeJob, prepare: Prepare, refuse: Refuse
) -> None:
    def lines(last: str) -> str:
        rows = [f'{{"id": {n}, "size": {n * 0.5}, "bought": {int(n % 4 == 0)}}}' for n in range(1500)]
        return "\n".join([*rows, last, ""])

    job = make_job(rows={"path": "small.jsonl"})
    write("small.jsonl", lines('{"id": 1500, "size": 1, "bought": 0, "\\u0063olor": "a"}'))
    assert sum(prepare(job).manifest.row_counts.values()) == 1501
    (Path(job.data.output) / "manifest.json").unlink()
    write("small.jsonl", lines('{"id": 1500, "size": 1, "bought": 0, "colour": "color"}'))
    assert str(refuse(job)) == (
        "data.sources.rows.columns: no line of the files has the member color; fix its name, or remove it"
    )


def test_images_that_cannot_be_decoded_are_left_out(tmp_path: Path, make_job: MakeJob, prepare: Prepare) -> None:
    for number in range(100):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        Image.new("RGB", (4, 4), (number, 0, 0)).save(content, "PNG")
        path.write_bytes(content.getvalue()[:50] if number == 7 else content.getvalue())
    (tmp_path / "images" / "README.txt").write_text("no image")
    job = make_job(
        {
            # The path makes all rows different: equal rows would share a split.
            "query": "SELECT length(image) AS size, path AS color, label = 'a' AS bought FROM rows",
            "features": {"size": {"kind": "numeric"}, "color": {"kind": "categorical"}},
        },
        rows={"path": "images", "format": "images", "columns": ..., "malformed": "quarantine"},
    )
    manifest = prepare(job).manifest
    assert sum(manifest.row_counts.values()) == 99
    assert manifest.malformed[0].reasons == (
        {
            "reason": "not an image that can be decoded",
            "column": None,
            "rows": 1,
            "examples": [{"file": str(tmp_path / "images" / "b" / "7.png"), "line": None}],
        },
    )


def test_image_that_cannot_become_a_feature_is_named(tmp_path: Path, make_job: MakeJob, refuse: Refuse) -> None:
    for number in range(12):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((4, 4, 3), 20 * number, np.uint8)
        Image.fromarray(pixels).save(path)
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "images" / "a" / "float.tif")
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "images" / "b" / "large.png")
    data = {
        "query": None,
        "features": {"image": {"kind": "image", "size": [4, 4], "max_pixels": 100}},
        "label": {"column": "label", "kind": "binary"},
    }
    text = str(refuse(make_job(data, rows={"path": "images", "format": "images", "columns": ...})))
    assert "float.tif" in text
    assert "pixels of 32 bits; save it with 8 or 16" in text
    assert "large.png" in text
    assert "40 x 40 pixels are more than max_pixels, 100" in text
