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
    lists: dict[str, list[str]] = metadata["optional-dependencies"]
    pending = list(extras)
    while pending:
        extra = pending.pop(0)
        if extra not in lists:
            sys.exit(f"--extra {extra}: {project} has the lists {', '.join(lists)}")
        for each in lists[extra]:
            own = re.fullmatch(rf"{metadata['name']}\[(.+)\]", each)  # a list may include others of the project
            if own:
                pending += own[1].split(",")
            else:
                selected.append(each)
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
