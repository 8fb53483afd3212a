"""`farandole export` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farandole.bundle import open_bundle
from tests.support.bundles import write_small_bundle
from tests.support.command import document, farandole


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("source") / "bundle")


def test_a_bundle_is_exported_signed_and_checked(source: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    made = farandole("export", "--new-key", key)
    assert made.returncode == 0, made.stderr
    assert f"{key}.pub: the public key" in made.stdout
    done = document("export", source, "-o", tmp_path / "out", "--no-onnx", "--no-query", "--sign-key", key)
    assert done["digest"] == open_bundle(tmp_path / "out", tmp_path / "key.pem.pub").digest
    assert done["forms"]["program"] <= 1e-4
    assert done["key_id"]


def test_a_damaged_bundle_ends_the_command_with_exit_code_2(source: Path, tmp_path: Path) -> None:
    damaged = write_small_bundle(tmp_path / "damaged")
    (damaged / "rows.json").write_text("{ }")
    done = farandole("export", damaged, "-o", tmp_path / "out", "--no-onnx", "--no-query")
    assert done.returncode == 2
    assert "rows.json: was changed" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_job_without_a_model_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps({"name": "a"}))
    done = farandole("export", tmp_path, "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "the job has no model" in done.stderr


def test_a_call_without_a_directory_says_what_to_write() -> None:
    done = farandole("export", "models:/flights/1")
    assert done.returncode == 2
    assert "farandole export MODEL -o DIR" in done.stderr
