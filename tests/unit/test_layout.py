"""Rules that hold for the checkout as a whole."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.paths import PACKAGE, ROOT

HEAVY = ("torch", "pyspark", "mlflow", "horovod")


def python(code: str) -> str:
    """Run code from the root of the checkout, as `python -c` does, and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_folder_platform_is_not_a_package() -> None:
    assert PACKAGE.is_dir()
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_the_standard_librarys_platform_is_the_one_that_is_imported() -> None:
    found = python("import sys; assert '' in sys.path; import platform; platform.system(); print(platform.__file__)")
    assert Path(found) == Path(sysconfig.get_path("stdlib")) / "platform.py"


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert len(folders) > 5
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()


@pytest.mark.parametrize("module", ["farandole.spec", "farandole.errors", "farandole.events"])
def test_light_modules_bring_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    assert python(code) == "[]"
