"""Models of bundles are explained as on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from farandole.bundle import BundleContents, write_bundle
from farandole.cli import main as cli
from farandole.errors import DataError, DatasetError
from farandole.explaining import ExplainedModel
from farandole.explaining.report import Limits
from farandole.serving.explanation import explain, explain_rows
from tests.support.explained import TEXT, labels, made_model, raw_rows
from tests.support.trainer_harness import one_thread

FEATURES = {"size": {"kind": "numeric"}, "colour": {"kind": "categorical"}, **TEXT}
OPTIONS = {"width": 8, "hidden": [8]}
ROW = {"size": 12.0, "colour": "c1", "words": "late storm"}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def model() -> ExplainedModel:
    from farandole.models import fusion

    return made_model(fusion.build, FEATURES, "binary", **OPTIONS)


@pytest.fixture(scope="module")
def bundle(model: ExplainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "bundle"
    contents = BundleContents("made", "farandole.models.fusion:build", OPTIONS, model.preprocessing)
    assert write_bundle(path, model.network, contents) is None
    model.network.requires_grad_(False)
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.parquet"
    pd.DataFrame({**{name: raw_rows(50)[name] for name in FEATURES}, "label": labels("binary", 50)}).to_parquet(path)
    return path


def test_a_bundle_is_explained_by_the_rows_of_a_file(bundle: Path, rows: Path, tmp_path: Path) -> None:
    recorded = explain(str(bundle), Limits(rows=40, repeats=2, seconds=1000), data=rows, folder=tmp_path / "out")
    document = json.loads((tmp_path / "out" / "report.json").read_text())
    assert document == json.loads(json.dumps(recorded.report.document))
    assert (document["rows"], document["model"], document["skipped"]) == (40, "made", [])
    assert set(document["columns"]) == set(FEATURES)
    assert {path.name for path in (tmp_path / "out").glob("*.png")} >= {"attributions.png", "tokens_words.png"}
    assert recorded.run_id is None


def test_the_command_prints_a_table_of_80_columns(bundle: Path, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = CliRunner().invoke(
        cli.app,
        ["explain", str(bundle), "--data", str(rows), "--repeats", "2", "--seconds", "1000"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    assert "loss of roc_auc" in done.output
    assert all(name in done.output for name in FEATURES)
    assert max(map(len, done.output.splitlines())) <= 80


def test_single_rows_are_explained(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (found,) = explain_rows(str(bundle), [ROW])
    runner = CliRunner()
    done = runner.invoke(cli.app, ["explain", str(bundle), "--row", json.dumps(ROW), "--json"], catch_exceptions=False)
    (document,) = json.loads(done.stdout)
    assert document["columns"] == pytest.approx(found.columns)
    shown = runner.invoke(cli.app, ["explain", str(bundle), "--row", json.dumps(ROW)], catch_exceptions=False).output
    assert shown.startswith("yes: ")
    assert all(word in shown for word in ("c1", "storm", "log-odds", "baseline"))


def test_input_that_does_not_fit_is_an_error(bundle: Path) -> None:
    with pytest.raises(DatasetError, match="give rows with --data FILE"):
        explain(str(bundle), Limits())
    with pytest.raises(DataError, match="column colour: is missing"):
        explain_rows(str(bundle), [{"size": 1.0, "words": "late"}])
    for text, problem in (("{size", "is not JSON"), ("[1]", "is not an object")):
        done = CliRunner().invoke(cli.app, ["explain", str(bundle), "--row", text])
        assert isinstance(done.exception, DataError)
        assert problem in str(done.exception)
