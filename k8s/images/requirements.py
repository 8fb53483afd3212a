"""Print the requirements of pyproject.toml that an image needs, one per line.

    python requirements.py [--extra NAME]... [--without NAME]... [--only NAME]...

`pip install --constraint requirements.lock` then installs the locked versions. An unknown name is an error, so that a
renamed dependency does not slip into an image.
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path


def requirements(project: Path, extras: list[str], without: list[str], only: list[str]) -> list[str]:
    """Return the selected requirements.

    Args:
        project: Path of pyproject.toml.
        extras: Optional lists to include.
        without: Names to leave out.
        only: Names to include, and no others; empty for all.
    """
    metadata = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    selected: list[str] = list(metadata["dependencies"])
    for extra in extras:
        if extra not in metadata["optional-dependencies"]:
            sys.exit(f"--extra {extra}: {project} has the lists {', '.join(metadata['optional-dependencies'])}")
        selected += metadata["optional-dependencies"][extra]
    names = {_name(each) for each in selected}
    for name in (*without, *only):
        if name not in names:
            sys.exit(f"{name}: not a requirement of {project}; those are {', '.join(sorted(names))}")
    return [each for each in selected if _name(each) not in without and (not only or _name(each) in only)]


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path("pyproject.toml"))
    parser.add_argument("--extra", action="append", default=[])
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("--only", action="append", default=[])
    arguments = parser.parse_args()
    print("\n".join(requirements(arguments.project, arguments.extra, arguments.without, arguments.only)))
