"""Print the requirements of pyproject.toml, one a line, without those that an image has no use for.

    python requirements.py [--extra NAME]... [--without NAME]... [--only NAME]...

`pip install --constraint requirements.lock` then takes the locked versions. A name that is in no list is an error, so
that a renamed dependency does not slip into an image.
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path


def requirements(project: Path, extras: list[str], without: list[str], only: list[str]) -> list[str]:
    """The requirements that are left.

    Args:
        project: The pyproject.toml.
        extras: Optional lists that are wanted besides.
        without: Names that are not wanted.
        only: The names that are wanted alone; none: all.
    """
    described = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    wanted: list[str] = list(described["dependencies"])
    for extra in extras:
        if extra not in described["optional-dependencies"]:
            sys.exit(f"--extra {extra}: {project} has only {', '.join(described['optional-dependencies'])}")
        wanted += described["optional-dependencies"][extra]
    names = {_name(each) for each in wanted}
    for name in (*without, *only):
        if name not in names:
            sys.exit(f"{name}: {project} does not ask for it; it asks for {', '.join(sorted(names))}")
    return [each for each in wanted if _name(each) not in without and (not only or _name(each) in only)]


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path("pyproject.toml"))
    parser.add_argument("--extra", action="append", default=[])
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("--only", action="append", default=[])
    asked = parser.parse_args()
    print("\n".join(requirements(asked.project, asked.extra, asked.without, asked.only)))
