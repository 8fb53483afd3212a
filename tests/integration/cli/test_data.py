"""`farandole data …` on a dataset in a real object store."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from farandole.cli.main import main
from tests.support.made_data import Made
from tests.support.object_store import Folder


def ran(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["farandole", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_every_command_takes_a_uri(
    s3: Folder,
    made: Callable[..., Made],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    s3.put_all(made().path)
    assert ran(monkeypatch, "data", "inspect", s3.uri, "--json") == 0
    assert json.loads(capsys.readouterr().out)["digest"] == made().manifest.digest
    assert ran(monkeypatch, "data", "head", s3.uri, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 5
    assert ran(monkeypatch, "data", "verify", s3.uri) == 0
    assert capsys.readouterr().out.startswith(f"{s3.uri}: all 6 shards")
    assert ran(monkeypatch, "data", "diff", s3.uri, str(made().path)) == 0
    shard = made().manifest.splits["test"][0]
    s3.put(shard.file, s3.get(shard.file)[:-1] + b"?")
    assert ran(monkeypatch, "data", "verify", s3.uri) == 2
    problems = " ".join(capsys.readouterr().err.split())
    assert f"{s3.uri}/{shard.file}: has a footer that does not match its checksum" in problems
    assert ran(monkeypatch, "data", "inspect", "s3://key:s3cret@bucket/a") == 2
    assert "s3cret" not in capsys.readouterr().err
