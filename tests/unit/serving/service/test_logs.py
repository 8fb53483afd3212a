from __future__ import annotations

import io
import json

from farandole.serving.service.logs import JsonLog


def test_every_line_is_a_json_object_with_time_level_and_process() -> None:
    stream = io.BytesIO()
    log = JsonLog(stream, "worker 1")
    log.write("reload_failed", level="error", error='a "quoted"\nerror')
    line = json.loads(stream.getvalue())
    assert stream.getvalue().count(b"\n") == 1
    assert (line["event"], line["level"], line["process"]) == ("reload_failed", "error", "worker 1")
    assert line["error"] == 'a "quoted"\nerror'
    assert line["time"] > 1.7e9


def test_lines_of_requests_are_written_at_the_latest_by_flush() -> None:
    stream = io.BytesIO()
    log = JsonLog(stream)
    for number in range(3):
        log.request(status=200, number=number)
    log.flush()
    assert [json.loads(line)["number"] for line in stream.getvalue().splitlines()] == [0, 1, 2]


def test_log_that_nobody_reads_disturbs_nothing() -> None:
    stream = io.BytesIO()
    stream.close()
    JsonLog(stream).write("ended")
    assert stream.closed
