from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
import torch

from farandole.explaining.report import Limits
from farandole.process.messages import parse_line
from farandole.spec import Job
from farandole.training import explanation
from farandole.training.checkpoint import weights_digest
from farandole.training.explanation import explain_training
from farandole.training.trainer import Trainer
from tests.support.networks import build_counting_ids
from tests.support.trainer_harness import Harness

MakeJob = Callable[..., Job]


@pytest.fixture(autouse=True)
def _enough_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out nothing for want of time on a busy machine."""
    monkeypatch.setattr(explanation, "Limits", partial(Limits, seconds=1000))


class Files:
    """Keeps the files that a run would get."""

    def __init__(self) -> None:
        self.content: dict[str, Any] = {}

    def log_json(self, value: dict[str, Any], path: str) -> None:
        self.content[path] = json.loads(json.dumps(value))

    def log_file(self, path: str, content: bytes) -> None:
        self.content[path] = content


def _explain(trainer: Trainer, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Explain a trained network; return the recorded files, and the messages to the launcher."""
    files = Files()
    capsys.readouterr()
    explain_training(trainer, cast(Any, files))
    messages = (parse_line(line)[1] for line in capsys.readouterr().out.splitlines())
    return files.content, [message for message in messages if message is not None]


def test_the_explanation_uses_the_metric_and_the_rows_of_the_test(
    harness: Harness, make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = harness.fit(make_job())
    test, digest = trainer.evaluate("test"), weights_digest(trainer.model.state_dict())
    content, messages = _explain(trainer, capsys)
    document = content["explanations/report.json"]
    assert document["score"] == pytest.approx(test.metrics["roc_auc"], abs=1e-6)
    assert (document["origin"], document["rows"]) == ("test rows", len(test.label))
    columns = document["columns"]
    # The label follows from width, height and colour; `row` and the time are noise.
    for helpful in ("width", "height", "colour"):
        assert columns[helpful]["permutation"]["mean"] > 2 * abs(columns["seen_at"]["permutation"]["mean"])
    assert content["explanations/permutation_importance.png"].startswith(b"\x89PNG")
    assert "150 test rows in" in json.dumps(messages[-1])
    assert weights_digest(trainer.model.state_dict()) == digest
    assert all(parameter.requires_grad for parameter in trainer.model.parameters())


def test_a_network_that_cannot_be_followed_is_a_warning(
    harness: Harness, make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = harness.fit(make_job(train__epochs=1))
    torch.manual_seed(0)
    trainer.model = build_counting_ids(trainer.dataset.manifest.columns)
    content, messages = _explain(trainer, capsys)
    assert content == {}
    shown = json.dumps(messages[-1])
    assert "the model is not explained" in shown
    assert "id_layers()" in shown
