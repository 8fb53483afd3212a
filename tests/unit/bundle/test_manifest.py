"""Everything that can be wrong with the files of a bundle has its own error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from farandole.bundle import MANIFEST, open_bundle
from farandole.bundle.manifest import write_manifest
from farandole.errors import BundleError
from tests.support.bundles import write_small_bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bundle"))


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _link(path: Path) -> None:
    path.rename(path.parent.parent / path.name)
    path.symlink_to(path.parent.parent / path.name)


def _change(path: Path, key: str, value: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped byte": (lambda folder: _flip(folder / "weights.safetensors"), "weights.safetensors: was changed"),
    "missing file": (lambda folder: (folder / "rows.json").unlink(), "rows.json is missing"),
    "added file": (lambda folder: (folder / "run.py").write_text("import os"), "run.py is not listed in manifest.json"),
    "link": (lambda folder: _link(folder / "rows.json"), "rows.json: was changed"),
    "truncated manifest": (lambda folder: _truncate(folder / MANIFEST), "manifest.json: is truncated"),
    "other version": (
        lambda folder: _change(folder / MANIFEST, "format_version", 2),
        "has the format version 2, and this version of Farandole reads 1",
    ),
    "no files listed": (
        lambda folder: _change(folder / MANIFEST, "files", []),
        "is not a manifest of format version 1",
    ),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), "has no manifest.json, so it is not a bundle"),
    "no directory": (shutil.rmtree, "has no manifest.json, so it is not a bundle"),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_changed_bundle_is_rejected_with_what_changed(bundle: Path, change: str) -> None:
    apply, expected = CHANGES[change]
    apply(bundle)
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle)
    assert expected in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_digest_is_that_of_the_manifest_and_changes_with_any_file(bundle: Path) -> None:
    before = open_bundle(bundle)
    assert before.digest.startswith("sha256:")
    assert open_bundle(bundle).digest == before.digest
    (bundle / "card.md").write_text("more")
    write_manifest(bundle, before.name)
    assert open_bundle(bundle).digest != before.digest
