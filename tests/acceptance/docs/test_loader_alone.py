"""The scripts of docs/loader.md, run as they stand."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.made_data import ROWS, Made
from tests.support.paths import ROOT

BIN = Path(sys.executable).parent
DOCUMENT = (ROOT / "docs" / "loader.md").read_text(encoding="utf-8")


def _run(name: str, folder: Path, made: Made, *launcher: str) -> tuple[list[list[float]], dict[str, Any]]:
    """Run a script of the document on a dataset; return the weights and the loader's state that it prints."""
    (script,) = re.findall(rf"^```python\n(# {re.escape(name)} .*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    (folder / name).write_text(script, encoding="utf-8")
    command = [*launcher, sys.executable, name, str(made.path)]
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "[[" in line]
    weights, state = ast.literal_eval(f"({line[line.index('[[') :].replace('] {', '], {')})")
    return weights, state


@pytest.mark.slow
def test_one_process_and_a_gang_of_two_learn_the_same(tmp_path: Path, made: Callable[..., Made]) -> None:
    alone, state = _run("alone.py", tmp_path, made())
    assert state == {
        "algorithm": 2,
        "digest": made().manifest.digest,
        "seed": 0,
        "epoch": 2,
        "rows": 0,
        "global_batch_size": 256,
    }
    assert ROWS["train"] % 256  # there is a tail, of which each rank has a part
    assert any(abs(weight) > 0.01 for weight in alone[0])
    gang, gangs_state = _run("gang.py", tmp_path, made(), str(BIN / "horovodrun"), "-np", "2")
    assert gangs_state == state
    assert gang[0] == pytest.approx(alone[0], abs=1e-5)
