from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest

from farandole.errors import SpecError
from farandole.spec import Job, parse_job

Problems = Callable[[dict[str, Any]], list[str]]


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every part of a JSON Schema that has properties."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


@pytest.mark.parametrize("name", ["a", "flights", "a-1", "9", "x" * 53])
def test_name_of_lower_case_letters_digits_and_dashes_is_valid(raw: dict[str, Any], name: str) -> None:
    assert parse_job({**raw, "name": name}).name == name


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a b", "x" * 54, "a\n", "é"])
def test_any_other_name_is_rejected(raw: dict[str, Any], name: str) -> None:
    with pytest.raises(SpecError, match="job: name: "):
        parse_job({**raw, "name": name})


def test_each_worker_needs_a_row_of_each_batch(raw: dict[str, Any], problems: Problems) -> None:
    raw |= {"train": {"global_batch_size": 4}, "resources": {"workers": 8}}
    assert problems(raw) == ["job: train.global_batch_size: 4 rows for 8 workers leave 4 without a row; use at least 8"]
    raw["resources"]["workers"] = 4
    assert parse_job(raw).resources.workers == 4


@pytest.mark.parametrize(
    ("kind", "metric"), [("binary", "rmse"), ("multiclass", "roc_auc"), ("regression", "accuracy")]
)
def test_metric_must_suit_the_label(raw: dict[str, Any], problems: Problems, kind: str, metric: str) -> None:
    raw["data"]["label"]["kind"] = kind
    raw["train"] = {"metrics": [metric]}
    (line,) = problems(raw)
    assert line.startswith(f"job: train.metrics: {metric} does not suit a {kind} label; use ")


@pytest.mark.parametrize(
    ("kind", "loss"), [("binary", "mse"), ("multiclass", "binary_cross_entropy"), ("regression", "cross_entropy")]
)
def test_loss_must_suit_the_label(raw: dict[str, Any], problems: Problems, kind: str, loss: str) -> None:
    raw["data"]["label"]["kind"] = kind
    raw["train"] = {"loss": loss}
    (line,) = problems(raw)
    assert line.startswith(f"job: train.loss: {loss} does not suit a {kind} label; use auto, ")


@pytest.mark.parametrize(
    ("kind", "metrics"),
    [
        ("binary", ("roc_auc", "average_precision", "accuracy", "log_loss")),
        ("multiclass", ("accuracy", "log_loss", "macro_f1")),
        ("regression", ("rmse", "mae", "r2")),
    ],
)
def test_all_suitable_metrics_are_measured_by_default(raw: dict[str, Any], kind: str, metrics: tuple[str, ...]) -> None:
    raw["data"]["label"]["kind"] = kind
    assert parse_job(raw).metrics == metrics
    raw["train"] = {"metrics": [metrics[1]]}
    assert parse_job(raw).metrics == (metrics[1],)
    raw["train"] = {"metrics": ["mymet:err", metrics[0]]}
    assert parse_job(raw).metric_keys == ("mymet.err", metrics[0])


def test_folder_that_is_not_text_is_rejected(raw: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="folder"):
        parse_job({**raw, "folder": 5})


def test_json_schema_is_valid_and_strict() -> None:
    schema = Job.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["required"]) == {"name", "data"}
    assert schema["additionalProperties"] is False


def test_every_field_of_the_json_schema_is_described() -> None:
    schema = Job.model_json_schema()

    def description(field: dict[str, Any]) -> str:
        # A field without its own description has that of the part that it refers to.
        part = schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {})
        return str(field.get("description") or part.get("description", ""))

    bare = [
        f"{part['title']}.{name}"
        for part in objects(schema)
        for name, field in part["properties"].items()
        if len(description(field)) < 10
    ]
    assert bare == []


def test_valid_job_matches_the_json_schema(raw: dict[str, Any]) -> None:
    schema = jsonschema.Draft202012Validator(Job.model_json_schema())
    assert list(schema.iter_errors(parse_job(raw).model_dump(mode="json"))) == []
    raw["data"]["sources"]["trips"]["format"] = "csv"
    assert list(schema.iter_errors(raw)) == []


def test_json_schema_accepts_a_source_without_a_format(raw: dict[str, Any]) -> None:
    assert parse_job(raw).data.sources["trips"].format == "csv"
    jsonschema.validate(raw, Job.model_json_schema())


def test_json_schema_rejects_an_unknown_key(raw: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError, match="epoch"):
        jsonschema.validate({**raw, "train": {"epoch": 1}}, Job.model_json_schema())


def test_problems_across_parts_are_reported_together(raw: dict[str, Any], problems: Problems) -> None:
    raw["train"] = {"global_batch_size": 1, "metrics": ["rmse"], "loss": "mse"}
    raw["resources"] = {"workers": 3}
    found = problems(raw)
    assert [problem.split(": ")[1] for problem in found] == ["train.global_batch_size", "train.metrics", "train.loss"]


def test_script_needs_neither_a_model_nor_data() -> None:
    job = parse_job({"name": "own", "train": {"script": "train.py", "args": ["--epochs", "2"]}})
    assert job.has_training
    assert not job.has_data
    assert parse_job(job.model_dump(mode="json")) == job


def test_settings_that_a_script_replaces_are_rejected(problems: Problems) -> None:
    train = {"script": "train.py", "epochs": 3, "ema": {}}
    found = problems({"name": "own", "train": train, "model": {"builder": "m:build"}})
    assert found == [
        "job: train.script: builds its network itself; remove `model`, or remove the script",
        "job: train: epochs, ema without effect beside `script`; pass it to the script by `args`",
    ]


@pytest.mark.parametrize("script", ["/abs/train.py", "../train.py", "train.sh"])
def test_script_is_a_python_file_in_the_folder_of_the_job(problems: Problems, script: str) -> None:
    assert problems({"name": "own", "train": {"script": script}}) == [
        f"job: train.script: {script}: give a Python file by its path inside the job's folder: train.py"
    ]


def test_arguments_without_a_script_are_rejected(raw: dict[str, Any], problems: Problems) -> None:
    assert problems({**raw, "train": {"args": ["x"]}}) == ["job: train.args: only for `train.script`; remove them"]


def test_data_may_only_be_missing_beside_a_script(problems: Problems) -> None:
    assert any("data: " in problem for problem in problems({"name": "own"}))
