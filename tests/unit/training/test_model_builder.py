from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from farandole.errors import ModelError
from farandole.shards import Group, LabelColumn, Schema
from farandole.spec import Job, parse_job
from farandole.training.model_builder import build_model

SCHEMA = Schema(
    groups=(Group(name="dense", kind="numbers", features=("x", "z")),),
    label=LabelColumn(kind="binary", column="y", classes=("no", "yes")),
)
MakeJob = Callable[..., Job]


@pytest.fixture(autouse=True)
def _restore_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the import path and the imported modules after each test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("users_"):
            del sys.modules[name]


@pytest.fixture
def job(tmp_path: Path) -> MakeJob:
    """Return a function that creates a job whose builder is in a module of the user."""

    def job(source: str, builder: str = "users_network:build", **options: Any) -> Job:
        (tmp_path / "users_network.py").write_text(source, encoding="utf-8")
        raw = {
            "name": "small",
            "data": {
                "sources": {"a": {"path": "a.csv"}},
                "features": {"x": {"kind": "numeric"}, "z": {"kind": "numeric"}},
                "label": {"column": "y", "kind": "binary"},
            },
            "model": {"builder": builder, "options": options},
        }
        return parse_job(raw, folder=tmp_path)

    return job


GOOD = """
from torch import nn
def build(schema, *, width=1):
    module = nn.Linear(schema.groups[0].size, width)
    module.schema = schema
    return module
"""


def test_builder_beside_the_job_file_receives_schema_and_options(job: MakeJob) -> None:
    model = build_model(job(GOOD, width=3), SCHEMA)
    assert isinstance(model, nn.Linear)
    assert (model.in_features, model.out_features) == (2, 3)
    assert model.schema == SCHEMA


def test_builder_of_farandole_is_found(job: MakeJob) -> None:
    model = build_model(job("", builder="farandole.models.mlp:build", hidden=[4]), SCHEMA)
    assert model(dense=torch.zeros(5, 2)).shape == (5, 1)


def test_folder_is_added_to_the_import_path_once(job: MakeJob, tmp_path: Path) -> None:
    for _ in range(2):
        build_model(job(GOOD), SCHEMA)
    assert sys.path.count(str(tmp_path)) == 1


@pytest.mark.parametrize(
    ("source", "builder", "problem"),
    [
        ("", "users_none:build", "cannot be imported: ModuleNotFoundError: No module named 'users_none'"),
        ("def other(): pass", "users_network:build", "cannot be imported: AttributeError: .*no attribute 'build'"),
        ("def build(:", "users_network:build", "cannot be imported: SyntaxError: "),
        ("1 / 0", "users_network:build", "cannot be imported: ZeroDivisionError: division by zero"),
        ("import users_missing", "users_network:build", "cannot be imported: ModuleNotFoundError: .*users_missing"),
    ],
    ids=["no module", "no function", "syntax", "raises", "its own import"],
)
def test_builder_that_cannot_be_imported_is_reported(job: MakeJob, source: str, builder: str, problem: str) -> None:
    with pytest.raises(ModelError, match=rf"^model\.builder: {builder}: {problem}") as caught:
        build_model(job(source, builder), SCHEMA)
    assert "Traceback" in (caught.value.detail or "")
    assert "\n" not in str(caught.value)


def test_builder_that_raises_is_reported_with_line_and_options(job: MakeJob, tmp_path: Path) -> None:
    source = "def build(schema, width):\n    raise ValueError('too\\nwide')\n"
    with pytest.raises(ModelError) as caught:
        build_model(job(source, width=9), SCHEMA)
    location = f"in {tmp_path / 'users_network.py'}, line 2; options were {{'width': 9}}"
    assert str(caught.value) == f"model.builder: users_network:build: raised ValueError: too wide {location}"
    assert "Traceback" in (caught.value.detail or "")


def test_unknown_option_of_the_builder_is_reported(job: MakeJob) -> None:
    with pytest.raises(ModelError, match=r"raised TypeError: .*'depth'.*; options were \{'depth': 2\}"):
        build_model(job(GOOD, depth=2), SCHEMA)


@pytest.mark.parametrize(
    ("made", "kind"), [("None", "NoneType"), ("nn.Linear", "type"), ("lambda **groups: 0", "function"), ("[1]", "list")]
)
def test_builder_that_returns_no_module_is_reported(job: MakeJob, made: str, kind: str) -> None:
    source = f"from torch import nn\ndef build(schema):\n    return {made}\n"
    with pytest.raises(ModelError, match=rf"returned {kind}; return a torch\.nn\.Module"):
        build_model(job(source), SCHEMA)


@pytest.mark.parametrize("made", ["nn.ReLU()", "nn.Linear(1, 1).requires_grad_(False)"], ids=["none", "frozen"])
def test_module_without_trainable_parameters_is_rejected(job: MakeJob, made: str) -> None:
    source = f"from torch import nn\ndef build(schema):\n    return {made}\n"
    with pytest.raises(ModelError, match="without trainable parameters; nothing could be trained"):
        build_model(job(source), SCHEMA)


def test_builder_that_is_not_callable_is_reported(job: MakeJob) -> None:
    with pytest.raises(ModelError, match="raised TypeError: 'int' object is not callable"):
        build_model(job("build = 3"), SCHEMA)
