from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from farandole.errors import UserError
from farandole.serving.access import audit as audit_module
from farandole.serving.access.audit import AuditError, AuditLog
from farandole.serving.access.audit_chain import AuditReport, log_files, verify_audit
from farandole.serving.access.callers import AccessDenied, Caller
from farandole.serving.access.server_secret import read_secret
from tests.support.access import full_after

CALLER = Caller("key:a", "web", frozenset({"predict"}))


def _open(directory: Path, **options: Any) -> AuditLog:
    return AuditLog(directory, read_secret(directory, create=True), **options)


def _record(log: AuditLog, caller: Caller, action: str, status: int, fields: dict[str, Any]) -> None:
    asyncio.run(log.record(caller, action, status, fields))


def _verify(directory: Path) -> AuditReport:
    return verify_audit(directory, read_secret(directory, create=False))


def _log(directory: Path) -> list[dict[str, Any]]:
    lines = b"".join(path.read_bytes() for path in log_files(directory)).splitlines()
    return [json.loads(line) for line in lines]


def test_line_is_on_disk_when_record_returns(tmp_path: Path) -> None:
    log = _open(tmp_path)
    _record(log, CALLER, "predict", 200, {"rows": 5})
    line = _log(tmp_path)[-1]
    assert (line["n"], line["caller"], line["name"], line["action"], line["rows"]) == (2, "key:a", "web", "predict", 5)
    assert line["time"].endswith("+00:00")


def test_answers_of_one_turn_are_written_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = _open(tmp_path)
    turns: list[int] = []
    write = audit_module._write_whole

    def write_and_count(descriptor: int, lines: bytes, position: int) -> None:
        turns.append(lines.count(b"\n"))
        write(descriptor, lines, position)

    monkeypatch.setattr(audit_module, "_write_whole", write_and_count)

    async def answer(number: int) -> int:
        await log.record(CALLER, "predict", 200, {"rows": number})
        return len(_log(tmp_path))

    async def answer_all() -> list[int]:
        return await asyncio.gather(*(answer(number) for number in range(20)))

    assert asyncio.run(answer_all()) == [21] * 20  # no answer continues before its line is on the disk
    assert turns == [20]
    log.close()
    assert [line["rows"] for line in _log(tmp_path)[1:-1]] == list(range(20))
    assert _verify(tmp_path).is_intact


def test_lines_of_one_turn_that_fit_on_the_disk_are_written(tmp_path: Path) -> None:
    log = _open(tmp_path)

    async def record_all() -> list[BaseException | None]:
        texts = ("short", "x" * 2000, "short too")
        records = [log.record(CALLER, "predict", 200, {"more": text}) for text in texts]
        return await asyncio.gather(*records, return_exceptions=True)

    with full_after(tmp_path / "audit.jsonl", 900):
        outcomes = asyncio.run(record_all())
    assert [type(each) for each in outcomes] == [type(None), AuditError, type(None)]
    assert [line.get("more") for line in _log(tmp_path)] == [None, "short", "short too"]
    assert _verify(tmp_path).is_intact


def test_cancelled_request_does_not_disturb_the_others_of_its_turn(tmp_path: Path) -> None:
    log = _open(tmp_path)

    async def record_all() -> list[BaseException | None]:
        records = [asyncio.ensure_future(log.record(CALLER, "predict", 200, {"rows": each})) for each in range(3)]
        asyncio.get_running_loop().call_soon(records[1].cancel)
        return await asyncio.gather(*records, return_exceptions=True)

    outcomes = asyncio.run(record_all())
    assert [type(each) for each in outcomes] == [type(None), asyncio.CancelledError, type(None)]
    assert {0, 2} <= {line.get("rows") for line in _log(tmp_path)}
    assert _verify(tmp_path).is_intact


def test_fields_that_are_not_json_fail_alone(tmp_path: Path) -> None:
    log = _open(tmp_path)

    async def record_all() -> list[BaseException | None]:
        records = [log.record(CALLER, "predict", 200, {"more": each}) for each in (object(), "text")]
        return await asyncio.gather(*records, return_exceptions=True)

    assert [type(each) for each in asyncio.run(record_all())] == [TypeError, type(None)]
    assert _log(tmp_path)[-1]["more"] == "text"


def test_log_is_plain_ascii(tmp_path: Path) -> None:
    """Whoever looks at it in a terminal sees no character that could deceive."""
    log = _open(tmp_path)
    _record(log, Caller("token:x", "Zo\u00eb \u202egnp", frozenset()), "predict", 200, {"rows": 1})
    assert (tmp_path / "audit.jsonl").read_bytes().isascii()
    assert _log(tmp_path)[-1]["name"] == "Zo\u00eb \u202egnp"


def test_repair_is_noted_once_in_a_turn(tmp_path: Path) -> None:
    log = _open(tmp_path)
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"n": 2, "time": "20')

    async def record_all() -> None:
        await asyncio.gather(*(log.record(CALLER, "predict", 200, {"rows": each}) for each in range(3)))

    asyncio.run(record_all())
    report = _verify(tmp_path)
    assert (report.is_intact, report.lines, report.repairs) == (True, 4, (2,))


def test_two_writers_share_one_chain(tmp_path: Path) -> None:
    logs = [_open(tmp_path), _open(tmp_path)]
    for number in range(10):
        _record(logs[number % 2], CALLER, "predict", 200, {"rows": number})
    for log in logs:
        log.close()
    assert [line["n"] for line in _log(tmp_path)] == list(range(1, 15))
    assert _verify(tmp_path).is_intact


def test_threads_share_one_writer(tmp_path: Path) -> None:
    log = _open(tmp_path)

    def write() -> None:
        for _ in range(50):
            log.append({"event": "test"})

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _verify(tmp_path).lines == 201


def test_equal_refusals_of_a_second_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(audit_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    log = _open(tmp_path)
    denied = AccessDenied(401, "unauthenticated", "no")
    for _ in range(1000):
        log.record_refusal(denied)
    log.record_refusal(AccessDenied(429, "rate_limited", "slow", caller=CALLER))
    assert [line.get("count") for line in _log(tmp_path)] == [None, 1]
    now[0] += 1.5
    log.record_refusal(denied)
    log.close()
    refusals = [line for line in _log(tmp_path) if line.get("action") == "refused"]
    assert [(line["caller"], line["code"], line["count"]) for line in refusals] == [
        (None, "unauthenticated", 1),
        (None, "unauthenticated", 1000),
        ("key:a", "rate_limited", 1),
    ]


def test_refusals_of_two_certificates_are_two_lines(tmp_path: Path) -> None:
    log = _open(tmp_path)
    denied = AccessDenied(401, "unauthenticated", "no")
    for certificate in ("CN=a", "CN=b", "CN=b", None):
        log.record_refusal(denied, certificate)
    log.close()
    refusals = [line for line in _log(tmp_path) if line.get("action") == "refused"]
    assert {line.get("certificate"): line["count"] for line in refusals} == {"CN=a": 1, "CN=b": 2, None: 1}


def test_log_is_divided_into_files_by_size(tmp_path: Path) -> None:
    logs = [_open(tmp_path, max_file_bytes=1200), _open(tmp_path, max_file_bytes=1200)]
    for number in range(40):
        logs[number % 2].append({"row": number})
    for log in logs:
        log.close()
    files = log_files(tmp_path)
    assert len(files) > 3
    assert files[0].name == "audit-000000000001.jsonl"
    assert [line["n"] for line in _log(tmp_path)] == list(range(1, 45))
    assert _verify(tmp_path).is_intact


def test_fragment_of_a_worker_that_died_is_removed_and_noted(tmp_path: Path) -> None:
    log = _open(tmp_path)
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"n": 2, "time": "20')
    log.append({"event": "next"})
    report = _verify(tmp_path)
    assert (report.is_intact, report.lines, report.repairs) == (True, 2, (2,))
    assert _log(tmp_path)[-1]["repair"] == "an incomplete line was removed"


def test_line_whose_writer_died_before_the_head_is_kept(tmp_path: Path) -> None:
    log = _open(tmp_path)
    head = (tmp_path / "audit.head").read_bytes()
    log.append({"event": "unacknowledged"})
    (tmp_path / "audit.head").write_bytes(head)
    _open(tmp_path).append({"event": "next"})
    assert [line["event"] for line in _log(tmp_path)] == ["opened", "unacknowledged", "opened", "next"]
    assert _verify(tmp_path).is_intact


def test_truncation_while_the_service_runs_shows(tmp_path: Path) -> None:
    log = _open(tmp_path)
    for number in range(5):
        log.append({"row": number})
    lines = (tmp_path / "audit.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "audit.jsonl").write_bytes(b"".join(lines[:3]))
    log.append({"row": 5})
    report = _verify(tmp_path)
    assert (report.is_intact, report.line, report.problem) == (False, 4, "lines 4 to 6 are missing before it")


def test_removed_log_while_the_service_runs_shows(tmp_path: Path) -> None:
    log = _open(tmp_path)
    log.append({"row": 0})
    (tmp_path / "audit.jsonl").unlink()
    log.append({"row": 1})
    report = _verify(tmp_path)
    assert (report.is_intact, report.line, report.problem) == (False, 1, "lines 1 to 2 are missing before it")


def test_foreign_line_is_left_where_it_is_and_shows(tmp_path: Path) -> None:
    log = _open(tmp_path)
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"n": 2, "event": "forged", "mac": "00"}\n')
    log.append({"event": "next"})
    assert [line["event"] for line in _log(tmp_path)] == ["opened", "forged", "next"]
    report = _verify(tmp_path)
    assert (report.is_intact, report.line) == (False, 2)


@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_lost_head_is_rebuilt_from_the_last_line_and_noted(tmp_path: Path, content: bytes | None) -> None:
    log = _open(tmp_path, max_file_bytes=600)
    for number in range(6):
        log.append({"row": number})
    log.close()
    if content is None:
        (tmp_path / "audit.head").unlink()
    else:
        (tmp_path / "audit.head").write_bytes(content)
    _open(tmp_path).append({"event": "next"})
    report = _verify(tmp_path)
    assert (report.is_intact, report.lines, report.repairs) == (True, 10, (9,))
    assert _log(tmp_path)[8]["repair"] == "the head was missing or damaged"


def test_line_that_was_cut_off_leaves_nothing_behind(tmp_path: Path) -> None:
    log = _open(tmp_path)
    log.append({"row": 0})
    before = (tmp_path / "audit.jsonl").read_bytes()
    with full_after(tmp_path / "audit.jsonl", 40), pytest.raises(AuditError, match="was not written"):
        log.append({"row": 1})
    assert (tmp_path / "audit.jsonl").read_bytes() == before
    log.append({"row": 2})
    report = _verify(tmp_path)
    assert (report.is_intact, report.lines, report.repairs) == (True, 3, ())


def test_texts_of_callers_stay_in_one_line(tmp_path: Path) -> None:
    log = _open(tmp_path)
    _record(log, Caller("token:x", 'a"}\n{"mac": "\u2028\ud800', frozenset()), "predict", 200, {"more": ', "mac": "'})
    assert _log(tmp_path)[-1]["name"] == 'a"}\n{"mac": "\u2028\ud800'
    assert _verify(tmp_path).is_intact


def test_log_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    with pytest.raises(UserError, match=r"audit\.jsonl: Is a directory"):
        _open(tmp_path)


def test_forked_writer_does_not_break_the_chain(tmp_path: Path) -> None:
    """A lock that a child inherited would not exclude its parent."""
    log = _open(tmp_path)
    child = os.fork()
    if child == 0:
        try:
            for number in range(100):
                log.append({"child": number})
            os._exit(0)
        finally:  # an error must not let a second pytest continue
            os._exit(1)
    for number in range(100):
        log.append({"parent": number})
    assert os.waitpid(child, 0)[1] == 0
    assert _verify(tmp_path).lines == 201
