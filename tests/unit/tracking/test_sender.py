"""The sending thread with a scripted store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farandole.process.retry import Backoff
from farandole.tracking import sender as sender_module
from farandole.tracking.client import AuthError, DeliveryError, PermanentError, TransientError
from farandole.tracking.sender import Sender
from farandole.tracking.spool import Operation, Spool
from tests.support.tracking import EventList


class ScriptedDelivery:
    """A store that raises the given errors, one per call, and then accepts everything."""

    def __init__(self, *errors: DeliveryError, can_postpone: bool = False) -> None:
        self.errors = list(errors)
        self.can_postpone = can_postpone
        self.delivered: list[str] = []

    def deliver(self, operations: list[Operation], files: Path) -> int:
        if self.errors:
            raise self.errors.pop(0)
        self.delivered.append(operations[0]["name"])
        return 1

    def deliver_points(self, operation: Operation) -> list[str]:
        return [f"{name} is invalid" for name, *_ in operation["points"] if "@" in name]

    def can_be_postponed(self, operation: Operation) -> bool:
        return self.can_postpone


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "_BACKOFF", Backoff(first_s=0.01, longest_s=0.01))
    monkeypatch.setattr(sender_module, "_METRICS_INTERVAL_S", 0.01)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """Provide a spool with two operations."""
    spool = Spool(tmp_path / "spool")
    for kind, name in (("open", "first"), ("tags", "second")):
        spool.append({"op": kind, "name": name, "tags": {}})
    yield spool
    spool.close()


def _start(spool: Spool, delivery: Any) -> tuple[Sender, EventList]:
    events = EventList()
    sender = Sender(spool, delivery, events, "http://store")
    sender.start()
    return sender, events


def test_an_outage_is_reported_once_and_operations_are_retried_in_order(spool: Spool) -> None:
    delivery = ScriptedDelivery(TransientError("away"), TransientError("away"))
    sender, events = _start(spool, delivery)
    assert isinstance(sender.first_answer(60), TransientError)
    assert sender.drain(60)
    assert sender.stop()
    assert delivery.delivered == ["first", "second"]
    assert [str(event) for event in events] == [
        f"warning: http://store: the MLflow store does not answer (away); the job continues and keeps its records in"
        f" {spool.directory}",
        "http://store: MLflow answers again; sending the pending records",
    ]


def test_rejected_credentials_at_the_start_end_the_thread(spool: Spool) -> None:
    delivery = ScriptedDelivery(AuthError("rejected"))
    sender, events = _start(spool, delivery)
    assert isinstance(sender.first_answer(60), AuthError)
    assert not sender.drain(0)
    assert sender.stop()
    assert (spool.pending, delivery.delivered, events) == (2, [], [])


def test_credentials_that_are_rejected_after_an_outage_are_retried(spool: Spool) -> None:
    delivery = ScriptedDelivery(TransientError("away"), AuthError("rejected"), AuthError("rejected"))
    sender, events = _start(spool, delivery)
    assert sender.drain(60)
    assert sender.stop()
    assert events.warnings[1:] == ["http://store: MLflow rejects the pending records (rejected); they are retried"]


def test_only_the_invalid_metric_of_a_step_is_set_aside(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    points = [["loss", 1.0, 0, 0], ["bad@name", 1.0, 0, 0]]
    spool.append({"op": "metrics", "name": "step", "points": points})
    sender, events = _start(spool, ScriptedDelivery(PermanentError("invalid")))
    assert sender.drain(60)
    assert sender.stop()
    spool.close()
    (warning,) = events.warnings
    assert warning.startswith(
        "http://store: MLflow rejected metrics loss, bad@name (bad@name is invalid); it is kept in"
    )
    assert "bad@name is invalid" in (spool.directory / "refused.jsonl").read_text()


def test_the_files_of_a_rejected_model_are_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    folder = spool.new_folder()
    (spool.files / folder / "MLmodel").write_text("model")
    spool.append({"op": "model", "name": "model", "place": folder})
    sender, events = _start(spool, ScriptedDelivery(PermanentError("invalid")))
    assert sender.drain(60)
    assert sender.stop()
    spool.close()
    assert len(events.warnings) == 1
    assert (spool.rejected_files / folder / "MLmodel").read_text() == "model"


def test_a_file_that_cannot_be_sent_is_postponed_if_the_store_answers(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append({"op": "file", "name": "plot", "file": "folder/plot.png"})
    spool.append({"op": "tags", "name": "tags", "tags": {}})
    delivery = ScriptedDelivery(TransientError("no artifacts"), can_postpone=True)
    sender, _ = _start(spool, delivery)
    assert sender.drain(60)
    assert sender.stop()
    spool.close()
    assert delivery.delivered == ["tags", "plot"]


def test_a_store_that_is_silent_at_the_start_counts_as_an_outage(spool: Spool) -> None:
    sender, events = _start(spool, ScriptedDelivery())
    sender.stop()
    silent = Sender(spool, ScriptedDelivery(), events, "http://store")  # type: ignore[arg-type]  # a fake
    error = silent.first_answer(0.01)
    assert isinstance(error, TransientError)
    assert "does not answer (no answer for 0.01 s)" in events.warnings[0]
