from __future__ import annotations

from pathlib import Path

import pytest

from farandole.backends.kubernetes.pod.rank_logs import RANK_LINE, RankLogRelay


def test_lines_of_all_attempts_are_printed_once_and_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "logs" / "attempt-1"
    second = tmp_path / "logs" / "attempt-2"
    for folder in (first, second):
        folder.mkdir(parents=True)
    with RankLogRelay(tmp_path), (first / "rank-0.log").open("w", buffering=1) as log:
        log.write("one\nhalf")
        (first / "rank-1.log").write_text("two\n")
        log.write(" a line\n")
        (second / "rank-1.log").write_text("the last one has no end")
        (second / "launcher.log").write_text("not from a worker\n")
    found = sorted(capsys.readouterr().out.splitlines())
    assert found == ["[0] half a line", "[0] one", "[1] the last one has no end", "[1] two"]


@pytest.mark.parametrize(
    ("line", "rank"),
    [("[3] loss 0.1", "3"), ("[12] ", "12"), ("train: training on 2 workers", None), ("[x] y", None)],
)
def test_worker_lines_are_recognized(line: str, rank: str | None) -> None:
    match = RANK_LINE.match(line)
    assert (match["rank"] if match else None) == rank
