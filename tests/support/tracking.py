"""Helpers for tests of tracking."""

from __future__ import annotations

from mlflow import MlflowClient

from farandole.events import Event, Message


def metric_history(uri: str, run_id: str | None, name: str) -> list[tuple[int, float]]:
    assert run_id is not None
    points = MlflowClient(uri).get_metric_history(run_id, name)
    return [(point.step, point.value) for point in sorted(points, key=lambda point: (point.timestamp, point.step))]


def expected_history(steps: int) -> list[tuple[int, float]]:
    return [(step, step / 10) for step in range(steps)]


class EventList(list[Event]):
    """An event handler that keeps all events."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self if isinstance(event, Message) and event.level == "warning"]
