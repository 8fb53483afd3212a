"""CSV files on the page of a real service: they come back with predictions, and wrong rows are named."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from farandole.bundle import Predictor
from tests.support.browser_page import CHROMIUM, Opened
from tests.support.page_models import EVIL_VALUE, mixed_rows

pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; install Debian's package"),
    pytest.mark.slow(seconds=4),
    pytest.mark.timeout(900),
]


def test_a_csv_file_comes_back_with_predictions(
    opened: Opened, predictors: dict[str, Predictor], tmp_path: Path
) -> None:
    random = np.random.default_rng(8)
    texts = [" ".join(random.choice(["good", "bad", "plane"], 4)) for _ in range(2500)]
    texts[:3] = ['with "quotes", and a comma', "two\nlines", "=1+1"]
    with (tmp_path / "reviews.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "review"], *([str(index), text] for index, text in enumerate(texts))])
    opened.goto("reviews")
    opened.page.get_by_label("Choose a CSV file").set_input_files(tmp_path / "reviews.csv")
    opened.page.locator("#batch-state", has_text="2,500 of 2,500 rows predicted").wait_for()
    with opened.page.expect_download() as download:
        opened.page.get_by_role("link", name="Download the predictions").click()
    assert download.value.suggested_filename == "reviews-predictions.csv"
    found = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    assert [row["review"] for row in found] == texts
    expected = predictors["reviews"].predict({"review": texts})["prediction"]
    assert [float(row["prediction"]) for row in found] == expected.tolist()
    assert sum("/predict" in request for request in opened.requests) == 3
    opened.screenshot("csv")


def test_wrong_rows_of_a_csv_file_are_named_and_the_others_predicted(opened: Opened, tmp_path: Path) -> None:
    rows = mixed_rows(20)
    columns = [column for column in rows if column not in ("raw", "picture", "vector")]
    table = [[str(rows[column][row]).replace("+00:00", "Z") for column in columns] for row in range(20)]
    table[4][0] = table[11][0] = "wide"
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerows(
            [[*columns, "raw", "picture", "vector"], *([*row, "AAA=", _PICTURE, "[1,2,3]"] for row in table)]
        )
    opened.goto("mixed")
    opened.page.get_by_label("Choose a CSV file").set_input_files(tmp_path / "rows.csv")
    opened.page.locator("#batch-state", has_text="18 of 20 rows predicted").wait_for()
    problems = opened.page.locator("#batch-problems").inner_text()
    assert "row 5: width: " in problems
    assert "row 12: width: " in problems
    with opened.page.expect_download() as download:
        opened.page.get_by_role("link", name="Download the predictions").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    found = list(csv.DictReader(io.StringIO(text), delimiter=";"))
    assert [index for index, row in enumerate(found) if not row["prediction"]] == [4, 11]
    assert "wide" in found[4]["error"]
    assert found[0]["prediction"] in ("no", EVIL_VALUE)


_PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "The file is empty"),
        ("a,b\n1,2\n", "names none of the model's columns, review"),
        ("review\n", "no rows below its first line"),
        ("review,review\nx,y\n", 'names the column "review" twice'),
        ("id,review\n1\n", "Line 2 has 1 values, and line 1 names 2 columns"),
        ('id,review\n1,"open\n', "a quote is opened and never closed"),
        ('id,review\n1,"a"b\n', "a quote is followed by"),
    ],
)
def test_a_file_that_is_not_such_a_csv_is_refused(opened: Opened, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text(content)
    opened.goto("reviews")
    opened.page.get_by_label("Choose a CSV file").set_input_files(tmp_path / "bad.csv")
    opened.page.locator("#batch-problems", has_text=message).wait_for()
    assert not any("/predict" in request for request in opened.requests)


_DROP = """text => {
  const dropped = new DataTransfer();
  dropped.items.add(new File([text], 'dropped.csv', {type: 'text/csv'}));
  const drop = document.getElementById('drop');
  for (const kind of ['dragover', 'drop'])
    drop.dispatchEvent(new DragEvent(kind, {dataTransfer: dropped, bubbles: true, cancelable: true}));
}"""


def test_a_file_can_be_dropped(opened: Opened) -> None:
    opened.goto("reviews")
    opened.page.evaluate(_DROP, "review\ngood plane\n")
    opened.page.locator("#batch-state", has_text="1 of 1 rows predicted").wait_for()
    with opened.page.expect_download() as download:
        opened.page.get_by_role("link", name="Download the predictions").click()
    assert download.value.suggested_filename == "dropped-predictions.csv"


def test_csv_is_read_as_python_reads_it(opened: Opened) -> None:
    opened.goto("reviews")
    module = opened.page.locator("script").get_attribute("src").replace("page.js", "csv.js")
    read = f"async text => (await import(new URL('{module}', document.baseURI).href)).parse(text)"
    for content in ("a,b\r\n1,2\r\n", "\ufeffa,b\n1,2", 'a,b\n"x, ""y""","1\n2"\n', "a;b\n1,5;é\n", "a\tb\nx\t \n"):
        found = opened.page.evaluate(read, content)
        text = content.removeprefix("\ufeff")
        expected = list(csv.reader(io.StringIO(text, newline=""), delimiter=found["delimiter"]))
        assert [found["names"], *found["rows"]] == expected
    found = opened.page.evaluate(read, 'a,b\n,""\n')
    assert found["rows"] == [[None, ""]]
