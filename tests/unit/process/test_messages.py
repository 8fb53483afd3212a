from __future__ import annotations

import pytest

from farandole.events import Event, Message, Progress, StageEnded, StageStarted, event_from_dict, event_to_dict
from farandole.process.messages import MESSAGE_PREFIX, parse_line, send_message


@pytest.mark.parametrize(
    "event",
    [
        StageStarted("train", "training on 2 workers"),
        StageEnded("train", "32 steps"),
        Progress("train", 3, 9, "rows", "epoch 1 of 2", 7.5),
        Message("a line\nand another, “quoted”", "warning"),
    ],
)
def test_an_event_crosses_as_one_line(event: Event, capsys: pytest.CaptureFixture[str]) -> None:
    send_message(event_to_dict(event))
    said = capsys.readouterr().out
    assert said.startswith(MESSAGE_PREFIX)
    assert said.count("\n") == 1
    output, data = parse_line(said)
    assert output == ""
    assert data is not None
    assert event_from_dict(data) == event


@pytest.mark.parametrize("line", ["", "loss 0.5", "farandole {}", "@farandole {", "@farandole 3", "@farandole {}"])
def test_other_output_is_no_message(line: str) -> None:
    assert parse_line(line) == (line, None)


def test_a_message_is_heard_behind_output_without_a_lines_end() -> None:
    assert parse_line('...@farandole {"event": "result"}\n') == ("...", {"event": "result"})
