from __future__ import annotations

import pytest

from farandole.progress import Advanced, Event, Noted, StageEnded, StageStarted, from_dict, to_dict
from farandole.training.messages import MARK, received, send


@pytest.mark.parametrize(
    "event",
    [
        StageStarted("train", "training on 2 workers"),
        StageEnded("train", "32 steps"),
        Advanced("train", 3, 9, "rows", "epoch 1 of 2", 7.5),
        Noted("a line\nand another, “quoted”", "warning"),
    ],
)
def test_an_event_crosses_as_one_line(event: Event, capsys: pytest.CaptureFixture[str]) -> None:
    send(to_dict(event))
    said = capsys.readouterr().out
    assert said.startswith(MARK)
    assert said.count("\n") == 1
    output, data = received(said)
    assert output == ""
    assert data is not None
    assert from_dict(data) == event


@pytest.mark.parametrize("line", ["", "loss 0.5", "farandole {}", "@farandole {", "@farandole 3", "@farandole {}"])
def test_other_output_is_no_message(line: str) -> None:
    assert received(line) == (line, None)


def test_a_message_is_heard_behind_output_without_a_lines_end() -> None:
    assert received('...@farandole {"event": "result"}\n') == ("...", {"event": "result"})
