"""Answers of the registry, which may be away, and what the supervisor does with them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

from farandole.errors import UserError
from farandole.events import EventHandler, Message, ignore_event
from farandole.serving.service import Address, DeploymentPlan, ServiceSettings, Supervisor
from farandole.serving.service.logs import JsonLog
from farandole.serving.service.settings import DEPLOYMENT, Deployment, Variant

AWAY = Message("models:/small@live: http://mlflow: away; the cached bundle is used", level="warning")


def _version(number: str) -> Deployment:
    variant = Variant("live", "models:/small@live", f"/bundles/{number}", number, 1.0)
    return Deployment(0, {"small": (variant,)})


class _Plan(DeploymentPlan):
    """A plan whose answers are known beforehand: versions, with a warning where MLflow does not answer, or errors."""

    answers: list[tuple[Deployment, Message | None] | UserError]
    end: Callable[[], None]

    def resolve(self, on_event: EventHandler = ignore_event) -> Deployment:
        answer = self.answers.pop(0)
        if not self.answers:
            self.end()
        if isinstance(answer, UserError):
            raise answer
        found, warning = answer
        if warning is not None:
            on_event(warning)
        return found


def _follow(folder: Path, answers: list[tuple[Deployment, Message | None] | UserError]) -> list[dict[str, object]]:
    """Let a supervisor of version 1 ask until the answers are used up; return its log."""
    plan, output = _Plan(["models:/small@live"], {}), io.BytesIO()
    supervisor = Supervisor(plan, ServiceSettings(), Address(), 1, poll_s=0.001, log=JsonLog(output))
    object.__setattr__(plan, "answers", answers)
    object.__setattr__(plan, "end", supervisor._ending.set)
    supervisor._follow(folder, _version("1"))
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_outage_of_the_registry_and_its_end_are_logged_once_each(tmp_path: Path) -> None:
    lines = _follow(
        tmp_path,
        [
            (_version("1"), None),
            (_version("1"), AWAY),
            (_version("1"), AWAY),
            UserError("damaged"),
            (_version("1"), None),
        ],
    )
    assert [line["event"] for line in lines] == ["poll_failed", "poll_recovered"]
    assert (lines[0]["level"], lines[0]["error"]) == ("warning", AWAY.text)
    assert not (tmp_path / DEPLOYMENT).exists()


def test_new_version_is_written_for_the_workers(tmp_path: Path) -> None:
    lines = _follow(tmp_path, [UserError("damaged"), (_version("2"), None), (_version("2"), None)])
    assert [line["event"] for line in lines] == ["poll_failed", "poll_recovered", "versions_changed"]
    assert lines[0]["error"] == "damaged"
    written = Deployment.from_json((tmp_path / DEPLOYMENT).read_text())
    assert (written.generation, written.models["small"][0].version) == (1, "2")
