from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from farandole.events import EpochMetrics, Event, Message, Progress, StageEnded, StageStarted
from farandole.process.messages import (
    MESSAGE_PREFIX,
    Alive,
    Exited,
    Failed,
    MessageError,
    Met,
    MlflowRunCreated,
    Result,
    Started,
    Stopped,
    WorkerMessage,
    decode_message,
    encode_message,
    parse_line,
    send_message,
)

MESSAGES: list[WorkerMessage | Event] = [
    Started(1, 4711),
    Exited(1, 1.5, code=0),
    Exited(0, 2.0, signal=9, host="node1"),
    Exited(0, 2.0, lost="it is silent"),
    Alive(0, 4711, None, 0, 0),
    Alive(0, 4711, 17, 2, 23),
    Met(2),
    MlflowRunCreated("abc"),
    Failed(1, 3.0, "PeerLost", "another rank ended"),
    Failed(1, 3.0, "TrainingError", "the loss is not finite", detail="a trace", step=4),
    Stopped(12),
    Result({"digest": "0"}, {"steps": 3}, {"uri": "models:/a/1"}),
    StageStarted("train", "training on 2 workers"),
    StageEnded("train", "32 steps"),
    Progress("train", 3, 9, "rows", "epoch 1 of 2", 7.5),
    Progress("train", 3, 9, "rows", "epoch 1 of 2", 7),
    Message("a line\nand another, “quoted”", "warning"),
    EpochMetrics(1, 2, {"roc_auc": 0.5, "count": 3}),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_message_is_sent_as_one_line(message: WorkerMessage | Event, capsys: pytest.CaptureFixture[str]) -> None:
    send_message(message)
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    output, data = parse_line(line)
    assert output == ""
    assert data is not None
    assert decode_message(data) == message


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"event": "finished"}, "there is no event 'finished'"),
        ({"event": "Event", "text": "x"}, "there is no event 'Event'"),
        ({"event": "started", "rank": 0}, "Started needs pid"),
        ({"event": "started", "rank": "0", "pid": 1}, "Started.rank cannot be '0'"),
        ({"event": "started", "rank": True, "pid": 1}, "Started.rank cannot be True"),
        ({"event": "started", "rank": 0, "pid": 1, "color": "red"}, "Started has no field color"),
        ({"event": "failed", "rank": 0, "time_s": "now", "kind": "x", "message": "y"}, "Failed.time_s cannot be 'now'"),
        ({"event": "result", "dataset": [], "training": {}, "model": {}}, r"Result.dataset cannot be \[\]"),
        ({"event": "Message", "text": "x", "level": "loud"}, "Message.level cannot be 'loud'"),
        ({"event": "EpochMetrics", "epoch": 1, "epochs": 2, "metrics": {"a": "b"}}, "EpochMetrics.metrics cannot be"),
    ],
)
def test_malformed_message_is_refused_with_its_reason(data: dict[str, Any], text: str) -> None:
    with pytest.raises(MessageError, match=text):
        decode_message(data)


def test_encoded_message_names_its_event() -> None:
    assert encode_message(Met(2)) == {"event": "met", "workers": 2}
    assert encode_message(Message("a")) == {"event": "Message", "text": "a", "level": "info"}


@pytest.mark.parametrize(
    "line",
    [
        "just output\n",
        "",
        f"{MESSAGE_PREFIX}no JSON\n",
        f"{MESSAGE_PREFIX}[1]\n",
        f"{MESSAGE_PREFIX}{{}}\n",
        f'{MESSAGE_PREFIX}{{"event": 1}}\n',
        f'{MESSAGE_PREFIX}{{"event": "Mess',
        MESSAGE_PREFIX.strip(),
    ],
)
def test_line_without_a_message_is_output(line: str) -> None:
    assert parse_line(line) == (line, None)


def test_output_before_a_message_is_kept() -> None:
    assert parse_line('...@farandole {"event": "result"}\n') == ("...", {"event": "result"})


def test_nan_survives_in_metrics() -> None:
    message = EpochMetrics(1, 2, {"loss": float("nan")})
    decoded = decode_message(json.loads(json.dumps(encode_message(message))))
    assert isinstance(decoded, EpochMetrics)
    assert decoded.metrics["loss"] != decoded.metrics["loss"]


def test_messages_need_no_heavy_library() -> None:
    heavy = ("pydantic", "torch", "pyarrow")
    code = f"import sys, farandole.process.messages; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout == "[]\n"
