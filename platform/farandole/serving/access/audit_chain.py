"""The form of the audit log: lines of JSON, each with a code that depends on it and on the line before.

A line ends in `"mac": HMAC-SHA-256(key, mac of the previous line + this line without its mac)`. Whoever lacks the key,
which follows from the server's secret, can neither change nor add nor remove a line so that the codes fit. What the
chain alone cannot show is that its last lines are missing; therefore the head, a file beside it, holds the number and
the code of the last line, with a code of its own. An older copy of both files fits as well: only a head that was noted
elsewhere shows that.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from farandole.errors import UserError, explain_os_error
from farandole.process.locks import wait_for_lock
from farandole.serving.access.server_secret import ServerSecret

LOG, HEAD, LOCK = "audit.jsonl", "audit.head", "audit.lock"
GENESIS = bytes(32)
"""The code that precedes the first line."""

HEAD_BYTES = 256

_MAC = ', "mac": "'
_END = '"}'
_ARCHIVE = re.compile(r"audit-(\d{12})\.jsonl")


@dataclass(frozen=True)
class Head:
    """The end of the chain.

    Args:
        number: Number of the last line, from 1; 0: there is none.
        mac: Its code.
        size_bytes: Length of the log after it.
    """

    number: int = 0
    mac: bytes = GENESIS
    size_bytes: int = 0


class Chain:
    """Codes of lines and heads under one key.

    Args:
        secret: The server's secret.
    """

    def __init__(self, secret: ServerSecret) -> None:
        self._key, self._head_key = secret.derive("audit lines"), secret.derive("audit head")

    def seal(self, text: str, previous: bytes) -> tuple[bytes, bytes]:
        """Return a line, with its line feed, and its code.

        Args:
            text: A JSON object of one line.
            previous: The code of the line before.
        """
        mac = self._mac(text, previous)
        return f"{text[:-1]}{_MAC}{mac.hex()}{_END}\n".encode(), mac

    def open(self, line: bytes, previous: bytes) -> tuple[dict[str, Any], bytes] | None:
        """Return the content and the code of a line; None if it does not follow `previous`.

        Args:
            line: The line without its line feed.
            previous: The code of the line before.
        """
        try:
            text, _, mac_text = line.decode().rpartition(_MAC)
            text += "}"
            mac = self._mac(text, previous)
            is_whole = hmac.compare_digest(mac_text.encode(), (mac.hex() + _END).encode())
            return (json.loads(text), mac) if is_whole else None
        except ValueError:
            return None

    def claimed(self, line: bytes) -> tuple[int, bytes]:
        """Return the number and the code that a line states, unchecked; those of an empty chain if it states none."""
        try:
            content = json.loads(line)
            return int(content["n"]), bytes.fromhex(content["mac"])
        except (ValueError, KeyError, TypeError):
            return 0, GENESIS

    def write_head(self, head: Head) -> bytes:
        """Return a head as text of a fixed length, to be written in one piece."""
        text = f"{head.number} {head.mac.hex()} {head.size_bytes}"
        return f"{text} {self._head_mac(text)}".encode().ljust(HEAD_BYTES - 1) + b"\n"

    def read_head(self, content: bytes) -> Head | None:
        """Return the head that a text describes; None if it is damaged or was not written with this key."""
        text, _, mac_text = content.decode("ascii", errors="replace").strip().rpartition(" ")
        if not hmac.compare_digest(mac_text.encode(), self._head_mac(text).encode()):
            return None
        number, mac, size = text.split(" ")
        return Head(int(number), bytes.fromhex(mac), int(size))

    def _mac(self, text: str, previous: bytes) -> bytes:
        return hmac.digest(self._key, previous + text.encode(), "sha256")

    def _head_mac(self, text: str) -> str:
        return hmac.digest(self._head_key, text.encode(), "sha256").hex()


@dataclass(frozen=True)
class AuditReport:
    """The result of a verification.

    Args:
        is_intact: Whether every line is there and unchanged.
        lines: Number of lines that were found good.
        head: Code of the last good line, in hexadecimal; noted elsewhere, it shows later that older lines are the same.
        file: The file with the first broken line.
        line: Its number within the file, from 1.
        problem: What is wrong there.
        unclosed: Workers that run, or that were killed: refusals that these had only counted are missing.
        repairs: Lines that mention a repair, by number: a fragment that was removed, a head that was rebuilt.
    """

    is_intact: bool
    lines: int
    head: str
    file: str | None = None
    line: int | None = None
    problem: str | None = None
    unclosed: tuple[str, ...] = ()
    repairs: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return asdict(self)


def verify_audit(directory: Path, secret: ServerSecret, *, noted_head: str | None = None) -> AuditReport:
    """Check every line of an audit log, also of one that is being written.

    Args:
        directory: The access directory.
        secret: The server's secret.
        noted_head: A head that an earlier verification returned; it must be part of the chain.

    Raises:
        UserError: There is no log, or it cannot be read.
    """
    try:
        with wait_for_lock(directory / LOCK):  # the present end; lines that follow are for the next verification
            *archives, current = log_files(directory) or [directory / LOG]
            file = current.open("rb")
            head_path = directory / HEAD
            head_content = head_path.read_bytes() if head_path.exists() else None
            end_bytes = current.stat().st_size
        with file:
            verification = _Verification(Chain(secret), noted_head)
            return verification.run(archives, current, _limited(file, end_bytes), head_content)
    except FileNotFoundError as error:
        raise UserError(f"{directory / LOG}: there is no audit log; `farandole serve` writes it") from error
    except OSError as error:
        raise UserError(explain_os_error(error, error.filename or directory)) from error


def log_files(directory: Path) -> list[Path]:
    """Return the files of a log, the oldest first; all but the last have been closed because of their size."""
    archives = sorted(path for path in directory.glob("audit-*.jsonl") if _ARCHIVE.fullmatch(path.name))
    current = directory / LOG
    return [*archives, current] if current.exists() else archives


def archive_name(first_number: int) -> str:
    """Return the name of a closed file by the number of its first line."""
    return f"audit-{first_number:012d}.jsonl"


class _Verification:
    def __init__(self, chain: Chain, noted_head: str | None) -> None:
        self._chain, self._noted_head = chain, noted_head
        self._number, self._mac = 0, GENESIS
        self._open_writers: dict[str, None] = {}
        self._repairs: list[int] = []
        self._has_noted_head = noted_head is None

    def run(
        self, archives: list[Path], current: Path, lines: Iterator[bytes], head_content: bytes | None
    ) -> AuditReport:
        for path in archives:
            with path.open("rb") as file:
                report = self._check_file(path, file)
            if report:
                return report
        report = self._check_file(current, lines)
        if report:
            return report
        problem = self._check_end(head_content)
        return self._report(current, None, problem) if problem else self._report()

    def _check_file(self, path: Path, lines: Iterable[bytes]) -> AuditReport | None:
        for line_number, line in enumerate(lines, 1):
            problem = self._check(line)
            if problem:
                return self._report(path, line_number, problem)
        return None

    def _check(self, line: bytes) -> str | None:
        """Return what is wrong with the next line of the chain."""
        if not line.endswith(b"\n"):
            return "the line is incomplete: its writer died, or the disk was full"
        opened = self._chain.open(line[:-1], self._mac)
        if opened is None:
            return self._explain(line)
        content, self._mac = opened
        self._number += 1
        if content.get("n") != self._number:
            return f"the line has number {content.get('n')} instead of {self._number}"
        self._has_noted_head = self._has_noted_head or self._mac.hex() == self._noted_head
        if "repair" in content:
            self._repairs.append(self._number)
        if content.get("event") == "opened":
            self._open_writers[str(content["writer"])] = None
        elif content.get("event") == "closed":
            self._open_writers.pop(str(content["writer"]), None)
        return None

    def _explain(self, line: bytes) -> str:
        try:
            number = json.loads(line)["n"]
        except (ValueError, KeyError, TypeError):
            number = None
        expected = self._number + 1
        if isinstance(number, int) and number > expected:
            return f"lines {expected} to {number - 1} are missing before it"
        if isinstance(number, int) and number < expected:
            return f"the line has number {number}, and {expected} follows: it was copied, or moved"
        return "the line, or the one before it, was changed; or the secret is another one"

    def _check_end(self, head_content: bytes | None) -> str | None:
        if head_content is None:
            return f"the file {HEAD} is missing, so the last lines may be missing as well"
        head = self._chain.read_head(head_content)
        if head is None:
            return f"the file {HEAD} was changed, or the secret is another one"
        if head.number > self._number:
            return f"the last {head.number - self._number} lines are missing"
        if not self._has_noted_head:
            return "the head that was given is not part of the log: lines were removed, or the log was replaced"
        return None

    def _report(self, path: Path | None = None, line: int | None = None, problem: str | None = None) -> AuditReport:
        return AuditReport(
            is_intact=problem is None,
            lines=self._number,
            head=self._mac.hex(),
            file=str(path) if path else None,
            line=line,
            problem=problem,
            unclosed=tuple(self._open_writers),
            repairs=tuple(self._repairs),
        )


def _limited(lines: Iterable[bytes], end_bytes: int) -> Iterator[bytes]:
    position = 0
    for line in lines:
        if position >= end_bytes:
            return
        position += len(line)
        yield line
