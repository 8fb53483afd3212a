from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from farandole.bundle import Bundle, open_bundle
from farandole.errors import DataError, UserError
from farandole.events import Event, Progress
from farandole.serving import score_files as files_module
from farandole.serving.csv_rows import CsvOptions
from farandole.serving.scoring import RowScorer, ScoringOptions, score_files
from tests.support.bundles import ROWS, write_small_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(write_small_bundle(tmp_path_factory.mktemp("model") / "bundle"))


def table(repeats: int = 1) -> pa.Table:
    count = len(ROWS["size"]) * repeats
    return pa.table({**{name: values * repeats for name, values in ROWS.items()}, "id": list(range(count))})


def write(folder: Path, name: str, rows: pa.Table) -> Path:
    path = folder / name
    pq.write_table(rows, path) if path.suffix == ".parquet" else pacsv.write_csv(rows, path)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_rows_of_several_files_keep_their_order(tmp_path: Path, bundle: Bundle, suffix: str) -> None:
    paths = [write(tmp_path, f"{name}{suffix}", table()) for name in "ab"]
    output = tmp_path / "out.parquet"
    result = score_files(bundle, paths, output, options=ScoringOptions(keep=("id",)))
    found, wanted = pq.read_table(output), bundle.predictor().predict(ROWS)
    assert result.rows == len(found) == 12
    assert [int(value) for value in found.column("id").to_pylist()] == [*range(6), *range(6)]
    assert found.column("prediction").to_pylist() == [*wanted["prediction"], *wanted["prediction"]]
    assert np.array_equal(found.column("probability").to_numpy(), np.tile(wanted["probability"], 2))


def test_blocks_do_not_change_a_bit(tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "rows.parquet", table(50))
    score_files(bundle, [path], tmp_path / "one.parquet")
    monkeypatch.setattr(files_module.read_blocks, "__defaults__", (7,))
    score_files(bundle, [path], tmp_path / "many.parquet", options=ScoringOptions(threads=3))
    one, many = (pq.read_table(tmp_path / name) for name in ("one.parquet", "many.parquet"))
    assert one.equals(many)
    assert pq.read_metadata(tmp_path / "many.parquet").num_row_groups == 43


def test_predictions_can_be_csv(tmp_path: Path, bundle: Bundle) -> None:
    path = write(tmp_path, "rows.parquet", table())
    score_files(bundle, [path], tmp_path / "out.csv")
    assert pacsv.read_csv(tmp_path / "out.csv").column_names == ["prediction", "probability"]


def test_a_wrong_row_is_an_error_that_names_file_and_line(tmp_path: Path, bundle: Bundle) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("size,colour\n1.5,red\n2,blue\nlarge,red\n")
    with pytest.raises(DataError, match=r"rows\.csv: line 4: column size: 'large' is not double"):
        score_files(bundle, [path], tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_wrong_row_of_a_parquet_file_is_named_by_its_number(tmp_path: Path, bundle: Bundle) -> None:
    path = write(tmp_path, "rows.parquet", pa.table({"size": ["1", "2", "large"], "colour": ["red"] * 3}))
    with pytest.raises(DataError, match=r"rows\.parquet: row 3: column size: 'large' is not double"):
        score_files(bundle, [path], tmp_path / "out.parquet")


def test_csv_files_are_read_by_the_options(tmp_path: Path, bundle: Bundle) -> None:
    plain, other = tmp_path / "plain.csv", tmp_path / "other.csv"
    plain.write_text("size,colour\n1.5,red\n,blue\n")
    other.write_bytes("1.5;red\nkein Wert;blue\n".encode("utf-16"))
    options = CsvOptions(";", "utf-16", False, ("size", "colour"), ("kein Wert",))
    score_files(bundle, [plain], tmp_path / "plain.parquet")
    score_files(bundle, [other], tmp_path / "other.parquet", options=ScoringOptions(csv=options))
    assert pq.read_table(tmp_path / "other.parquet").equals(pq.read_table(tmp_path / "plain.parquet"))


def test_csv_options_without_a_csv_file_are_refused(tmp_path: Path, bundle: Bundle) -> None:
    path = write(tmp_path, "rows.parquet", table())
    options = ScoringOptions(csv=CsvOptions(null_values=("NA",)))
    with pytest.raises(UserError, match="--null-value: has no effect, since no file is CSV"):
        score_files(bundle, [path], tmp_path / "out.parquet", options=options)


def test_wrong_rows_can_be_counted_instead(tmp_path: Path, bundle: Bundle) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("size,colour\n1.5,red\nhuge,blue\n3,red\nlarge,red\n")
    result = score_files(bundle, [path], tmp_path / "out.parquet", options=ScoringOptions(on_error="null"))
    found = pq.read_table(tmp_path / "out.parquet").column("prediction")
    assert [value is None for value in found.to_pylist()] == [False, True, False, True]
    assert result.failed == 2
    assert (
        result.first_failure
        == f"{path}: line 3: column size: 'huge' is not double (1 of 1 rows); send values as"
        + (" training saw them, and missing ones as null")
    )


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("rows.csv", "size,color\n1,red\n", "no column colour, which the model needs; did you mean color"),
        ("rows.csv", "", "is empty"),
        ("rows.parquet", "no parquet", "is not a whole Parquet file"),
        ("rows.json", "{}", "neither CSV nor Parquet"),
        ("rows.csv", "size,colour\n1,red,3\n", "line 2: wrong number of fields"),
    ],
)
def test_files_that_cannot_be_scored(tmp_path: Path, bundle: Bundle, name: str, content: str, reason: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=reason):
        score_files(bundle, [tmp_path / name], tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_a_file_that_is_missing(tmp_path: Path, bundle: Bundle) -> None:
    with pytest.raises(DataError, match="no such file"):
        score_files(bundle, [tmp_path / "rows.csv"], tmp_path / "out.parquet")


def test_an_output_that_cannot_be_written(tmp_path: Path, bundle: Bundle) -> None:
    path = write(tmp_path, "rows.parquet", table())
    with pytest.raises(DataError, match="no such directory"):
        score_files(bundle, [path], tmp_path / "none" / "out.parquet")
    with pytest.raises(DataError, match="neither CSV nor Parquet"):
        score_files(bundle, [path], tmp_path / "out.json")


def test_a_kept_column_must_not_hide_the_predictions(bundle: Bundle) -> None:
    with pytest.raises(UserError, match="--keep prediction"):
        RowScorer(bundle, keep=("prediction",))


def test_a_file_without_rows_gives_no_predictions(tmp_path: Path, bundle: Bundle) -> None:
    path = write(tmp_path, "rows.parquet", table().slice(0, 0))
    assert score_files(bundle, [path], tmp_path / "out.parquet").rows == 0
    assert pq.read_table(tmp_path / "out.parquet").column_names == ["prediction", "probability"]


def test_progress_is_reported(tmp_path: Path, bundle: Bundle) -> None:
    events: list[Event] = []
    path = write(tmp_path, "rows.parquet", table())
    score_files(bundle, [path], tmp_path / "out.parquet", on_event=events.append)
    assert [(event.done, event.total) for event in events if isinstance(event, Progress)] == [(6, 6)]
