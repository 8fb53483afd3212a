"""A logged model accepts the rows of its source in every form, and predicts what the evaluation predicted for them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server
from torch import nn

from farandole.ingest.readers.byte_ranges import ByteRange
from farandole.ingest.readers.csv_reader import CsvReader
from farandole.preprocess import Observations, Preprocessing, learn
from farandole.spec import CsvSource, Job, parse_job
from farandole.tracking.model import save_model

TYPES = {
    "x": "double", "n": "bigint", "cents": "decimal(8,2)", "code": "string", "kind": "string", "ok": "boolean",
    "rank": "int", "t": "timestamp", "d": "date",
}  # fmt: skip
ROWS = """\
x,n,cents,code,kind,ok,rank,t,d
0.5,NA,1.10,007,None,true,3,2013-01-01T00:15:00Z,2013-01-01
,1,2.00,00501,b,false,1,2013-02-02T01:15:00+02:00,2013-02-01
-1,2,-999,1E2,"a, b",NA,NA,,
1e3,4503599627370497,0.05,NA,nan,yes,2,2013-07-07 06:15:00,2013-12-31
-999,-7,,007,b,no,3,2013-01-05,2012-02-29
2.25,0,3.3,Zürich,,true,1,2013-01-01T00:15:00Z,2013-01-01
"""
FEATURES = {
    "x": {"kind": "numeric", "indicator": True},
    "n": {"kind": "numeric", "indicator": True},
    "cents": {"kind": "numeric", "indicator": True},
    "code": {"kind": "categorical"},
    "kind": {"kind": "categorical"},
    "ok": {"kind": "categorical"},
    "rank": {"kind": "categorical"},
    "t": {"kind": "time", "parts": ["hour", "month"]},
    "d": {"kind": "time", "parts": ["days"], "encoding": "number"},
}


@dataclass(frozen=True)
class Served:
    """A loaded model, and what the evaluation predicts for the rows of its source."""

    model: Any
    typed: pd.DataFrame
    expected: np.ndarray


class Sum(nn.Module):
    """A network whose output depends on every feature; B rows."""

    def __init__(self, widths: dict[str, int]) -> None:
        super().__init__()
        self.weights = nn.ParameterDict({name: torch.rand(width) for name, width in widths.items()})

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        """Map the groups to logits `[B, 1]`."""
        parts = [(groups[name].float() * weight).sum(1) for name, weight in self.weights.items()]
        return torch.stack(parts).sum(0).unsqueeze(1)


def _job(path: Path) -> Job:
    source = {"path": str(path), "null_values": ["NA", "-999"], "columns": TYPES}
    data = {"sources": {"a": source}, "features": FEATURES, "label": {"column": "y", "kind": "binary"}}
    return parse_job({"name": "served", "data": data, "model": {"builder": "network:build"}})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("served")
    path = folder / "a.csv"
    path.write_text(ROWS, encoding="utf-8")
    job = _job(path)
    source = job.data.sources["a"]
    assert isinstance(source, CsvSource)
    reader = CsvReader(source, tuple(TYPES), TYPES)
    (read,) = list(reader.read(ByteRange(path, 0, path.stat().st_size)))
    assert not read.malformed
    fitted = Preprocessing.from_spec(job.data).with_types({**TYPES, "y": "boolean"})
    raw = read.batch.append_column("y", [True, False] * 3)
    while not fitted.fitted:
        seen = Observations()
        seen.add(fitted, raw)
        fitted = learn(fitted, seen)
    features = fitted.features(raw)
    torch.manual_seed(0)
    network = Sum({name: values.shape[1] for name, values in features.items()}).eval()
    assert save_model(network, fitted, job, folder / "model") is None
    with torch.no_grad():
        outputs = network(**{name: torch.from_numpy(values) for name, values in features.items()})
    expected = outputs.squeeze(1).double().sigmoid().numpy()
    return Served(mlflow.pyfunc.load_model(str(folder / "model")), read.batch.to_pandas(), expected)


def _texts() -> pd.DataFrame:
    return pd.DataFrame(list(csv.DictReader(io.StringIO(ROWS))))


def _clean(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype(object).where(frame.notna(), None)


def _by_pandas() -> pd.DataFrame:
    """Return the rows as users read them: whole numbers with gaps are floats, and texts stay texts."""
    frame = pd.read_csv(io.StringIO(ROWS), dtype={"code": str}, keep_default_na=False,
                        na_values=["", "NA"])  # fmt: skip
    frame["n"] = frame["n"].astype(object)  # a float would round 4503599627370497
    frame.loc[3, "n"] = 4503599627370497
    return frame


FORMS: dict[str, Callable[[Served], pd.DataFrame]] = {
    "texts of the file": lambda served: _texts(),
    "typed as training": lambda served: served.typed,
    "pandas.read_csv": lambda served: _by_pandas(),
    "categories": lambda served: _texts().astype("category"),
    "typed categories": lambda served: served.typed.astype("category"),
    "pandas.convert_dtypes": lambda served: _texts().replace({"": None, "NA": None, "-999": None}).convert_dtypes(),
    "naive times": lambda served: served.typed.assign(t=served.typed["t"].dt.tz_convert(None)),
    "times of another zone": lambda served: served.typed.assign(t=served.typed["t"].dt.tz_convert("Asia/Tokyo")),
    "Python objects": lambda served: _clean(served.typed),
    "another order and more columns": lambda served: served.typed.assign(more=1)[["more", *reversed(TYPES)]],
}


@pytest.mark.parametrize("form", list(FORMS))
def test_rows_of_the_source_are_predicted_as_they_were_evaluated(served: Served, form: str) -> None:
    predicted = served.model.predict(FORMS[form](served))
    np.testing.assert_allclose(predicted["probability"], served.expected, rtol=1e-5)


def test_each_row_alone_is_predicted_like_all_rows(served: Served) -> None:
    texts = _texts()
    alone = [served.model.predict(texts.iloc[[row]])["probability"].iloc[0] for row in range(len(texts))]
    np.testing.assert_allclose(alone, served.expected, rtol=1e-5)


def _post(served: Served, kind: str, body: str) -> tuple[int, str]:
    """Send the body of a request to the function behind the scoring server's route `/invocations`."""
    schema = served.model.metadata.get_input_schema()
    answer = scoring_server.invocations(body.encode(), kind, served.model, schema)
    return answer.status, answer.response


def _json_rows(served: Served) -> list[dict[str, Any]]:
    rows = _clean(served.typed.assign(cents=served.typed["cents"].astype(float))).to_dict("records")
    plain = (type(None), int, float, str)
    return [{name: value if isinstance(value, plain) else str(value) for name, value in row.items()} for row in rows]


def _requests(served: Served) -> dict[str, tuple[str, Any]]:
    text = _texts()
    rows = _json_rows(served)
    columns = {name: [row[name] for row in rows] for name in TYPES}
    # pandas makes floats of whole numbers with gaps, so that large ones are sent as texts
    exact = [
        [str(value) if name == "n" and value is not None else value for name, value in row.items()] for row in rows
    ]
    return {
        "text/csv": ("text/csv", ROWS),
        "split": ("application/json", {"dataframe_split": {"columns": list(TYPES), "data": exact}}),
        "records of texts": ("application/json", {"dataframe_records": text.to_dict("records")}),
        "instances": ("application/json", {"instances": rows}),
        "inputs": ("application/json", {"inputs": columns}),
        "inputs of texts": ("application/json", {"inputs": {name: text[name].tolist() for name in TYPES}}),
    }


@pytest.mark.parametrize("form", ["text/csv", "split", "records of texts", "instances", "inputs", "inputs of texts"])
def test_the_scoring_server_accepts_the_rows_of_the_source(served: Served, form: str) -> None:
    kind, body = _requests(served)[form]
    status, answer = _post(served, kind, body if isinstance(body, str) else json.dumps(body))
    assert status == 200, answer
    predicted = [row["probability"] for row in json.loads(answer)["predictions"]]
    np.testing.assert_allclose(predicted, served.expected, rtol=1e-5)


def test_a_member_that_an_object_lacks_is_missing_in_its_own_row(served: Served) -> None:
    rows: list[dict[str, Any]] = [{"x": 1.0, "kind": "b"}, {"x": 2.0}, {"kind": "nan"}]
    full = [{**dict.fromkeys(TYPES), **row} for row in rows]
    answers = []
    for body in ([{**dict.fromkeys(set(TYPES) - {"x", "kind"}), **row} for row in rows], full):
        status, answer = _post(served, "application/json", json.dumps({"instances": body}))
        assert status == 200, answer
        answers.append([row["probability"] for row in json.loads(answer)["predictions"]])
    assert answers[0] == answers[1]
    assert len(answers[0]) == 3


def test_a_value_that_does_not_fit_is_rejected_with_its_column(served: Served) -> None:
    with pytest.raises(MlflowException) as caught:
        _post(served, "text/csv", ROWS.replace("2.25", "much"))
    assert caught.value.get_http_status_code() == 400
    assert "column x: 'much' is not double (1 of 6 rows)" in caught.value.message
