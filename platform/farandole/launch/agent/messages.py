"""Messages from the agent to the launcher, besides those of its worker: see `farandole.process.messages`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from farandole.process.messages import MessageError, decode_fields, send_message


@dataclass(frozen=True)
class AgentAlive:
    """Heartbeat of the agent, once a second."""


@dataclass(frozen=True)
class Refused:
    """The agent cannot execute the request; `message` is the reason and the remedy."""

    message: str


@dataclass(frozen=True)
class Listening:
    """The agent accepts connections on a port of an address; None: the agent does not know its address."""

    address: str | None
    port: int


@dataclass(frozen=True)
class SpoolsFound:
    """A tar file with these spools of the job's `directory` follows, if there are any."""

    directory: str
    spools: list[str]


@dataclass(frozen=True)
class Answer:
    """The answer to the request."""

    answer: dict[str, Any]


AgentMessage = AgentAlive | Refused | Listening | SpoolsFound | Answer

_TYPES: dict[str, type[Any]] = {
    "agent_alive": AgentAlive,
    "refused": Refused,
    "listening": Listening,
    "spools_found": SpoolsFound,
    "answer": Answer,
}
_NAMES = {kind: name for name, kind in _TYPES.items()}


def send(message: AgentMessage) -> None:
    """Send a message to the launcher."""
    send_message({"event": _NAMES[type(message)], **asdict(message)})


def decode(data: dict[str, Any]) -> AgentMessage:
    """Return the message in plain data.

    Raises:
        MessageError: The data is not a message of an agent.
    """
    kind = _TYPES.get(data["event"])
    if kind is None:
        raise MessageError(f"an agent does not send {data['event']!r}")
    message: AgentMessage = decode_fields(kind, {name: data[name] for name in data if name != "event"})
    return message
