from __future__ import annotations

from pathlib import Path

import pytest

from farandole.bundle import open_bundle
from farandole.bundle.manifest import MANIFEST
from farandole.bundle.staged import is_staged, record_digest, recorded_digest, stage_bundle, staged_bundle
from farandole.errors import BundleError
from tests.support.bundles import write_small_bundle


@pytest.fixture(params=["directory", "uri"])
def checkpoints(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    folder = tmp_path / "checkpoints"
    return str(folder) if request.param == "directory" else folder.as_uri()


def test_copy_has_the_digest_of_its_origin_and_is_made_once(tmp_path: Path, checkpoints: str) -> None:
    bundle = open_bundle(write_small_bundle(tmp_path / "bundle"))
    assert not is_staged(bundle.digest, checkpoints)
    stage_bundle(bundle, checkpoints)
    with staged_bundle(bundle.digest, checkpoints, "train.distill.teacher") as copy:
        assert copy.digest == bundle.digest
        assert copy.path != bundle.path
        written = (copy.path / MANIFEST).stat().st_ino
        stage_bundle(bundle, checkpoints)
        assert (copy.path / MANIFEST).stat().st_ino == written


def test_copy_without_its_manifest_is_incomplete(tmp_path: Path) -> None:
    bundle, checkpoints = open_bundle(write_small_bundle(tmp_path / "bundle")), tmp_path / "checkpoints"
    stage_bundle(bundle, checkpoints)
    with staged_bundle(bundle.digest, checkpoints, "train.distill.teacher") as copy:
        (copy.path / MANIFEST).unlink()
    with (
        pytest.raises(BundleError, match=r"train\.distill\.teacher: .* has no bundle sha256:"),
        staged_bundle(bundle.digest, checkpoints, "train.distill.teacher"),
    ):
        raise AssertionError("was opened")
    stage_bundle(bundle, checkpoints)
    assert is_staged(bundle.digest, checkpoints)


def test_damaged_copy_is_refused(tmp_path: Path) -> None:
    bundle, checkpoints = open_bundle(write_small_bundle(tmp_path / "bundle")), tmp_path / "checkpoints"
    stage_bundle(bundle, checkpoints)
    with staged_bundle(bundle.digest, checkpoints, "train.prune.model") as copy:
        (copy.path / "rows.json").write_text("{} ")
    with (
        pytest.raises(BundleError, match=r"rows\.json: was changed"),
        staged_bundle(bundle.digest, checkpoints, "train.prune.model"),
    ):
        raise AssertionError("was opened")


def test_recorded_digest_is_that_of_the_same_name(tmp_path: Path, checkpoints: str) -> None:
    assert recorded_digest("distill", "models:/small@champion", checkpoints) is None
    record_digest("distill", "models:/small@champion", "sha256:1", checkpoints)
    assert recorded_digest("distill", "models:/small@champion", checkpoints) == "sha256:1"
    assert recorded_digest("distill", "models:/small/2", checkpoints) is None
    assert recorded_digest("prune", "models:/small@champion", checkpoints) is None
