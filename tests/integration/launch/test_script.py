"""Run of a user's own script that only uses the loader and the world."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from farandole.errors import SpecError
from farandole.launch.script import run_script
from tests.support.made_data import ROWS, Made

SCRIPT = """
import json
import os
import sys
from pathlib import Path

from farandole import Dataset, TrainingLoader
from farandole.training import world

with world.init() as gang:
    loader = TrainingLoader(Dataset(sys.argv[1]), global_batch_size=100, rank=gang.rank, size=gang.size)
    rows = world.all_reduce_sum([float(sum(batch.rows for batch in loader))], "rows")[0]
    seen = any(b"s3cret" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (os.getpid(), os.getppid()))
    found = {"rows": rows, "rank": gang.rank, "size": gang.size, "secret": os.environ["MY_SECRET"], "seen": seen}
    Path(sys.argv[2], f"{gang.rank}.json").write_text(json.dumps(found))
    if "fail" in sys.argv:
        sys.exit(9)
"""


@pytest.mark.slow
def test_ranks_of_a_script_connect_and_read_each_row_once(
    made: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT)
    monkeypatch.setenv("MY_SECRET", "s3cret")
    assert run_script(script, [str(made().path), str(tmp_path)], workers=2) == 0
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == {"rows": ROWS["train"], "rank": rank, "size": 2, "secret": "s3cret", "seen": False}


@pytest.mark.slow
def test_exit_code_of_a_failed_script_is_returned(
    made: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT)
    monkeypatch.setenv("MY_SECRET", "s3cret")
    assert run_script(script, [str(made().path), str(tmp_path), "fail"]) != 0


def test_missing_script_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"missing\.py: no such file; give the path of a Python script"):
        run_script(tmp_path / "missing.py")
