"""Write requirements.lock: the newest versions that pyproject.toml allows and that fit together, exactly.

Run by `make lock`, in .venv. Nothing is installed: the next `make setup` does.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# The versions that `make setup` installs for Python 3.11: what pyproject.toml asks for, and what that needs.
# Written by `make lock`, which takes the newest versions that pyproject.toml allows; do not edit by hand.
"""


def resolve() -> dict[str, str]:
    """Ask pip what a fresh environment would get: the version of each package by name."""
    # --no-build-isolation only spares a download: reading our own metadata needs no more than setuptools.
    options = ["--dry-run", "--ignore-installed", "--no-build-isolation", "--quiet", "--report", "-"]
    command = [sys.executable, "-m", "pip", "install", *options, "--editable", f"{ROOT}[dev]"]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    metadata = [package["metadata"] for package in report["install"]]
    # A local suffix (2.13.0+cpu) names one build of a version; the lock is for all of them.
    return {m["name"]: m["version"].split("+")[0] for m in metadata if m["name"] != "farandole"}


def main() -> None:
    """Write the lock."""
    versions = resolve()
    lines = sorted((f"{name}=={version}\n" for name, version in versions.items()), key=canonical)
    (ROOT / "requirements.lock").write_text(HEADER + "".join(lines))
    print(f"requirements.lock: {len(lines)} packages", file=sys.stderr)


def canonical(line: str) -> str:
    """Spell the name as the index does, so that `_`, `-` and capitals do not change the order."""
    return re.sub(r"[-_.]+", "-", line.split("==")[0]).lower()


if __name__ == "__main__":
    main()
