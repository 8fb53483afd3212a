"""Messages from workers and their launcher to the supervisor: marked lines of JSON on standard output.

Standard output reaches the supervisor from any machine, by pipe, by SSH or from a pod's log. Each message is one
object; its `event` names a class below, or an event of `farandole.events`. `decode_message` refuses everything else, so
whoever handles a message meets only what was declared.
"""

from __future__ import annotations

import functools
import json
import sys
import types
import typing
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from farandole.events import EVENT_TYPES, Event

WORKERS_VARIABLE = "FARANDOLE_WORKERS"
"""The environment variable with the number of workers, set by the launcher."""

MESSAGE_PREFIX = "@farandole "
"""Precedes each message; no other output contains it."""


class MessageError(ValueError):
    """Data that looks like a message and is not one."""


@dataclass(frozen=True)
class Started:
    """The launcher has started a worker's process."""

    rank: int
    pid: int


@dataclass(frozen=True)
class Exited:
    """A worker's process has ended.

    Args:
        rank: The worker.
        time_s: When, by the launcher's clock, in seconds since 1970.
        code: Its exit code; None: a signal ended it, or nothing is known.
        signal: The number of the signal that ended it.
        host: The other host on which it ran; None: the launcher's.
        lost: Why nothing is known of its end: its host does not answer.
    """

    rank: int
    time_s: float
    code: int | None = None
    signal: int | None = None
    host: str | None = None
    lost: str | None = None


@dataclass(frozen=True)
class Alive:
    """A worker's heartbeat, sent once a second.

    Args:
        rank: The worker.
        pid: Its process.
        step: Steps made; None before its first one.
        epoch: Epochs done.
        moves: Steps made and batches evaluated by this process.
    """

    rank: int
    pid: int
    step: int | None
    epoch: int
    moves: int


@dataclass(frozen=True)
class Met:
    """All workers are connected; rank zero sends it."""

    workers: int


@dataclass(frozen=True)
class MlflowRunCreated:
    """The MLflow server has created the run; rank zero sends its id."""

    id: str


@dataclass(frozen=True)
class Failed:
    """A worker ends because of an error.

    Args:
        rank: The worker.
        time_s: When, by the clock of its host, in seconds since 1970.
        kind: A name of `errors.ERRORS`, or `PeerLost`: the worker is a victim of another one's end.
        message: The text of the error.
        detail: The evidence: a stack trace.
        step: Steps made; None before its first one.
    """

    rank: int
    time_s: float
    kind: str
    message: str
    detail: str | None = None
    step: int | None = None


@dataclass(frozen=True)
class Stopped:
    """A worker was asked to stop by SIGTERM, and the state after `step` is saved."""

    step: int


@dataclass(frozen=True)
class Result:
    """The training is complete; rank zero sends the parts of the result document."""

    dataset: dict[str, Any] | None
    training: dict[str, Any]
    model: dict[str, Any]


WorkerMessage = Started | Exited | Alive | Met | MlflowRunCreated | Failed | Stopped | Result

_WORKER_TYPES: dict[str, type[Any]] = {
    "started": Started,
    "exited": Exited,
    "alive": Alive,
    "met": Met,
    "mlflow_run": MlflowRunCreated,
    "failed": Failed,
    "stopped": Stopped,
    "result": Result,
}
_TYPES = {**_WORKER_TYPES, **EVENT_TYPES}
_NAMES = {kind: name for name, kind in _TYPES.items()}


def encode_message(message: WorkerMessage | Event) -> dict[str, Any]:
    """Return a message as plain data."""
    return {"event": _NAMES[type(message)], **asdict(message)}


def decode_message(data: dict[str, Any]) -> WorkerMessage | Event:
    """Return the message that `encode_message` turned into this.

    Raises:
        MessageError: The data is not a message: an unknown event, a missing or unknown field, a value of another type.
    """
    kind = _TYPES.get(data.get("event", ""))
    if kind is None:
        raise MessageError(f"there is no event {data.get('event')!r}")
    message: WorkerMessage | Event = decode_fields(kind, {name: data[name] for name in data if name != "event"})
    return message


def decode_fields(kind: type[Any], data: dict[str, Any]) -> Any:
    """Build a dataclass from plain data whose fields and types are checked.

    Args:
        kind: The dataclass.
        data: Values by field name: all fields without a default, and any of the others.

    Raises:
        MessageError: A field is missing or unknown, or a value has another type.
    """
    hints = _hints(kind)  # type: ignore[arg-type]  # classes are hashable
    for name, value in data.items():
        if name not in hints:
            raise MessageError(f"{kind.__name__} has no field {name}")
        if not _fits(value, hints[name]):
            raise MessageError(f"{kind.__name__}.{name} cannot be {value!r}")
    missing = [
        field.name
        for field in fields(kind)
        if field.name not in data and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise MessageError(f"{kind.__name__} needs {', '.join(missing)}")
    return kind(**data)


def send_message(message: WorkerMessage | Event | dict[str, Any]) -> None:
    """Send a message to the launcher: one write for a whole line, so that lines of threads do not mix."""
    sys.stdout.write(format_message(message))
    sys.stdout.flush()


def format_message(message: WorkerMessage | Event | dict[str, Any]) -> str:
    """Return the line of a message."""
    data = message if isinstance(message, dict) else encode_message(message)
    return MESSAGE_PREFIX + json.dumps(data) + "\n"


def parse_line(line: str) -> tuple[str, dict[str, Any] | None]:
    """Split a line of a worker's output into plain output, and a message if there is one.

    Output may precede a message in one line, where somebody printed without a line feed. A line with the prefix but
    no JSON object after it is output: a user printed such a text, or the worker died while it wrote.
    """
    output, prefix, message = line.partition(MESSAGE_PREFIX)
    if not prefix:
        return line, None
    try:
        data = json.loads(message)
    except ValueError:
        return line, None
    return (output, data) if isinstance(data, dict) and isinstance(data.get("event"), str) else (line, None)


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value of JSON has the type that a field declares."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is dict:
        key, item = arguments
        return isinstance(value, dict) and all(_fits(k, key) and _fits(v, item) for k, v in value.items())
    if origin is list:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, type(None) if hint is None else hint)
