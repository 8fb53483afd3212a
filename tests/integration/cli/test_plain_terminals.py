"""Every command on terminals that lack most characters: plain text, and never a stack trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from farandole.jobdir.foreground import foreground_job
from tests.support.made_data import WriteJob
from tests.support.queued import shell_job

_RUN = """
import json, sys
from farandole.cli import main as cli
codes = {}
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["farandole", *arguments]
    print(f"--- {' '.join(arguments)}", flush=True)
    try:
        cli.main()
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    codes[" ".join(arguments)] = code
print("codes " + json.dumps(codes))
"""


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_every_command_prints_plain_text(encoding: str, home: Path, write_job: WriteJob, tmp_path: Path) -> None:
    job = write_job()
    bad = tmp_path / "größe.yaml"
    bad.write_text("name: größe\ndata: 5\nmodell: {}\n", encoding="utf-8")
    (tmp_path / "häuser.csv").write_text("größe,stadt,preis\n" + "1.5,Köln,10\n2.5,北京,20\n" * 30, encoding="utf-8")
    with pytest.raises(KeyboardInterrupt), foreground_job(shell_job(), lambda event: None) as here:
        raise KeyboardInterrupt
    dataset = json.loads(json.dumps(str(home / "datasets" / "small")))
    commands = [
        ["--help"], ["run", "--help"], ["--version"], ["data", "--help"], ["trian"], ["run"],
        ["plan", str(job)], ["plan", str(bad)], ["plan", str(tmp_path / "nö.yaml")], ["run", str(bad)],
        ["init", str(tmp_path / "häuser.csv"), "--label", "preis", "--output", str(tmp_path / "erste")],
        ["jobs"], ["status", here.directory.name], ["status", "größe-1"], ["logs", here.directory.name],
        ["retry", "größe-1"], ["cancel", "größe-1"], ["scale", "größe-1", "2"],
        ["data", "inspect", dataset], ["data", "head", dataset, "--decode"], ["data", "verify", dataset],
        ["data", "diff", dataset, dataset], ["data", "inspect", str(tmp_path / "größe")],
        ["sync"], ["schema"], ["submit", str(bad)], ["sweep", str(job)], ["jobs", "--state", "müde"],
    ]  # fmt: skip
    variables = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(commands)], env=variables, capture_output=True, check=False
    )
    shown, errors = done.stdout.decode(encoding), done.stderr.decode(encoding)
    assert "Traceback" not in shown + errors, errors
    assert "UnicodeEncodeError" not in shown + errors, errors
    codes = json.loads(shown.rpartition("codes ")[2])
    assert len(codes) == len({" ".join(command) for command in commands})
    assert set(codes.values()) <= {0, 2}, codes
    assert not {"✔", "✘", "─", "│", "…"} & set(shown + errors)
