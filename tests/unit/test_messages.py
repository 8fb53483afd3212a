"""Messages are plain English: no codes of Spark, Hadoop, torch or Horovod, no phrases of pydantic or YAML."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from farandole.errors import FarandoleError
from farandole.planning import plan
from farandole.spec import Job, load_job
from tests.support.messages import foreign_words
from tests.support.paths import PACKAGE

_FOREIGN_TEXTS = ("ON CONFLICT", "CREATE TABLE", "SELECT ", "INSERT INTO", "UPDATE ", "CAST(", "IDENTIFICATION HAS")
"""Parts of statements for SQLite and Spark, and of what ssh prints."""


def _templates(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string of several words that is not documentation; `{}` stands for values."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    hidden |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    hidden |= {id(node.msg) for node in ast.walk(tree) if isinstance(node, ast.Assert)}  # for maintainers
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        text = ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        elif isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        is_pattern = "\\" in text or "|" in text
        if len(text.split()) > 2 and not is_pattern and not any(mark in text for mark in _FOREIGN_TEXTS):
            yield getattr(node, "lineno", 0), text


def test_no_template_of_a_message_has_words_of_other_programs() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {words}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in _templates(path)
        if (words := foreign_words(text))
    ]
    assert found == []


_JOB: dict[str, Any] = {
    "name": "small",
    "data": {
        "sources": {"rows": {"path": "rows.csv", "columns": {"size": "double", "late": "int"}}},
        "features": {"size": {"kind": "numeric"}},
        "label": {"column": "late", "kind": "binary"},
    },
    "model": {"builder": "farandole.models.mlp:build"},
}
_CHANGES: dict[str, Any] = {
    "name": [None, 5, "", "a b", "Größe", [], True],
    "data": [None, 5, [], {}, "rows.csv"],
    "data.sources": [None, {}, [], "rows.csv", {"rows": None}, {"rows": []}, {"a b": {"path": "rows.csv"}}],
    "data.sources.rows.path": [None, 7, "", "none.csv", "s3://user:pass@bucket/x.csv", "package://none/x.csv"],
    "data.sources.rows.columns": [None, 5, [], {"size": 5}, {"size": "float32"}, {"sise": "double", "late": "int"}],
    "data.sources.rows.format": ["xml", 5, None, "parquet"],
    "data.sources.rows.separator": ["", ",,", 5, "é"],
    "data.sources.rows.encoding": ["utf-9", 5, "hex"],
    "data.sources.rows.null_values": [5, "NA", [None], [{}]],
    "data.sources.rows.malformed": ["ignore", 5],
    "data.sources.rows.timestamp_format": ["yyyy-QQ", 5, "'"],
    "data.features": [None, {}, [], "all", {"size": None}, {"size": "number"}, {"size": {}}, {"size": {"kind": "x"}}],
    "data.features.size": [{"kind": "numeric", "log": "perhaps"}, {"kind": "numeric", "clip": 5}, {"kind": 5}],
    "data.features.size.impute": ["middle", [], {}],
    "data.label": [[], {}, {"column": "late", "kind": "ranking"}, {"column": 5}, {"column": "lat", "kind": "binary"}],
    "data.split": [5, {"train": 2}, {"train": 0.5, "test": 0.1}, {"by": 5}, {"column": "late", "seed": 1}],
    "data.query": [5, []],
    "data.transform": ["nothing", "no.module:clean", 5],
    "data.expect": [{}, ["x"], [{"kind": "x"}], [{"kind": "range", "column": "size", "min": "a", "max": 2}]],
    "data.privacy": [5, {"columns": {"size": {"policy": "x"}}}, {"columns": []}, {"k_anonymity": 5}],
    "data.shards": [5, {"size_mib": -1}, {"encryption": {"key": "secret"}}],
    "data.memory": ["much", 5],
    "data.output": ["package://x/y", 5],
    "model": [5, [], {}, {"builder": "mlp"}, {"builder": "farandole.models.mpl:build"}, {"builder": 5}],
    "model.builder": ["farandole.models.mlp:bild", "none:build"],
    "train": [5, [], {"epoch": 3}],
    "train.epochs": ["many", 0, -1, 1.5, [], True],
    "train.global_batch_size": [0, "x", 1.5],
    "train.optimizer": [
        5,
        {"name": "sgdd"},
        {"learning_rate": "fast"},
        {"learning_rate": -1},
        {"name": "adam", "x": 1},
    ],
    "train.schedule": [5, {"name": "cosin"}, {"name": "cosine", "warmup": 2}],
    "train.precision": ["fp64", 5],
    "train.loss": ["hinge", 5, {"name": "x"}],
    "train.metrics": ["auc", ["auc"], [5]],
    "train.early_stopping": [5, {"patience": 0}, {"metric": "auc"}],
    "train.checkpoint": [5, {"every_steps": 0}, {"directory": "package://x"}],
    "train.augment": [5, {"size": {"flip": 1}}],
    "resources": [5, {"workers": 0}, {"workers": "two"}, {"min_workers": 5}, {"hosts": ["a b"]}, {"hosts": {"x": 1}}],
    "resources.gpus": [2, "all"],
    "tracking": [5, {"uri": "postgresql://ada:secret@host/db"}, {"uri": 5}, {"experiment": ""}],
    "backend": [5, {"use": "slurm"}, {"use": "kubernetes", "kubernetes": 5}, {"priority": "high"}],
    "sweep": [5, {}, {"space": {}}, {"space": {"train.epoch": {"low": 1, "high": 2}}}, {"space": {"train.epochs": 5}}],
    "colour": ["red"],
}
_TEXTS = [
    "",
    "just words",
    "[1, 2]",
    "name: [small",
    "name: small\n\tdata: 5",
    "name: 'small",
    "a: b: c",
    "name: small\nname: large",
    "name: !python/object:os.system {}",
    "name: *anchor",
    "name: &a [*a]",
    "\x00",
    "%YAML 9",
    "--- 1\n--- 2",
    "{",
    "name: small\ndata:\n  sources:\n   rows: {path: x}\n  features\n",
]


def _changed(field: str, value: Any) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(json.dumps(_JOB))
    *parents, last = field.split(".")
    section = raw
    for parent in parents:
        section = section.setdefault(parent, {})
    section[last] = value
    return raw


def _complaint(load: Callable[[], Job]) -> str:
    """Return what a user would read: the error, or the problems of the plan."""
    try:
        return "\n".join(plan(load()).problems)
    except FarandoleError as error:
        return str(error)


@pytest.mark.parametrize("field", _CHANGES)
def test_wrong_value_in_a_job_file_is_reported_in_plain_words(field: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("size,late\n1,0\n")
    path = tmp_path / "job.yaml"
    for value in _CHANGES[field]:
        path.write_text(yaml.safe_dump(_changed(field, value)), encoding="utf-8")
        text = _complaint(lambda: load_job(path))
        assert foreign_words(text) == [], f"{field}: {value!r}: {text}"
        assert "pattern ^" not in text, "a rule is given in words"


@pytest.mark.parametrize("text", _TEXTS)
def test_file_that_is_not_a_job_is_reported_in_plain_words(text: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text, encoding="utf-8")
    complaint = _complaint(lambda: load_job(path))
    assert complaint.startswith(str(path))
    assert foreign_words(complaint) == [], complaint


@pytest.mark.parametrize(
    "override",
    ["", "train", "train=5", "=5", "train.epochs=", "train.epochs=many", "trian.epochs=3", "name=[", "a.b.c=1"],
)
def test_wrong_override_is_reported_in_plain_words(override: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("size,late\n1,0\n")
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(_JOB), encoding="utf-8")
    complaint = _complaint(lambda: load_job(path, [override]))
    assert complaint
    assert foreign_words(complaint) == [], complaint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data.query: [CAST_INVALID_INPUT] x", ["CAST_INVALID_INPUT"]),
        ("An error occurred while calling o62.collect", ["o62"]),
        ("Input should be a valid integer", ["Input", "valid"]),
        ("expected <block end>, but found '<stream end>'", ["block", "stream"]),
        ("set FARANDOLE_HOME or JAVA_HOME; SIGKILL", []),
        ("column MEASUREMENT is missing", ["MEASUREMENT"]),
    ],
)
def test_foreign_words_are_found(text: str, words: list[str]) -> None:
    assert [re.split(r"[ .]", word.lstrip("<"))[0] for word in foreign_words(text)] == words
    assert foreign_words("column MEASUREMENT is missing", "MEASUREMENT") == []
