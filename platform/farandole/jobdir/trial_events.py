"""Events of a trial that its sweep needs: the trial's process appends them, and the sweep reads them."""

from __future__ import annotations

import json
from pathlib import Path

from farandole.events import EpochMetrics, Event, EventHandler, Message
from farandole.jobdir.layout import TRIAL_EVENTS
from farandole.process.messages import decode_message, encode_message


class TrialEventWriter:
    """Event handler that appends the metrics of epochs, and warnings, to a file of the trial's directory.

    Args:
        directory: The directory of the trial's job.
        on_event: Receives every event as well.
    """

    def __init__(self, directory: Path, on_event: EventHandler) -> None:
        self._path, self._on_event = directory / TRIAL_EVENTS, on_event

    def __call__(self, event: Event) -> None:
        """Append an event, where the sweep needs it, and pass it on."""
        if isinstance(event, EpochMetrics) or (isinstance(event, Message) and event.level == "warning"):
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(encode_message(event)) + "\n")
        self._on_event(event)


class TrialEventReader:
    """Reads the events of a trial while they are written, each of them once.

    Args:
        directory: The directory of the trial's job.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / TRIAL_EVENTS
        self._offset = 0

    def read(self) -> list[EpochMetrics | Message]:
        """Return the events that were appended since the last call.

        Raises:
            MessageError: A line is not an event.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()  # its writer has not finished it
        self._offset += sum(map(len, lines))
        events = [decode_message(json.loads(line)) for line in lines]
        return [event for event in events if isinstance(event, EpochMetrics | Message)]
