"""Runs a container of a rendered manifest as processes of this machine: its command, arguments, environment and volumes
as the manifest has them. What differs is given by the test: ports, addresses, and where the image's programs are."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.k8s_manifests import Object, find


@dataclass(frozen=True)
class MachinePod:
    """One container, ready to be run.

    Args:
        command: Command and arguments.
        environment: All of its environment.
        mounts: Mount path to the folder that stands for it.
    """

    command: list[str]
    environment: dict[str, str]
    mounts: dict[str, Path]

    def run(
        self, *command: str, stdin: str = "", more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the container's command, or another one in its place, to the end.

        Args:
            command: The other command.
            stdin: What it reads.
            more: More environment.
        """
        return subprocess.run(
            [*(self._here(each) for each in command)] or self.command,
            env=self.environment | dict(more or {}),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def _here(self, text: str) -> str:
        return _moved(text, self.mounts)


def machine_pod(
    template: Object,
    objects: list[Object],
    directory: Path,
    *,
    path: str,
    environment: Mapping[str, str] | None = None,
    arguments: Mapping[str, str] | None = None,
) -> MachinePod:
    """The first container of a pod template.

    Args:
        template: The template.
        objects: What it refers to: ConfigMaps and Secrets.
        directory: Where its volumes are made.
        path: Where its programs are found, as in PATH.
        environment: What differs in its environment.
        arguments: What differs in its arguments: `--name` to the value, or whole arguments.
    """
    container = template["spec"]["containers"][0]
    mounts = _volumes(template, objects, directory)
    values = {name: _moved(value, mounts) for name, value in _environment(container, objects).items()}
    values |= {"PATH": path, "TMPDIR": tempfile.gettempdir(), **(environment or {})}
    command = [*container.get("command", ()), *container.get("args", ())]
    command = [_moved(re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], each), mounts) for each in command]
    for name, value in (arguments or {}).items():
        places = [index for index, each in enumerate(command) if each == name or each.startswith(f"{name}=")]
        assert len(places) == 1, f"{name}: {len(places)} times in {command}"
        command[places[0]] = f"{name}={value}" if "=" in command[places[0]] else value
    return MachinePod(command, values, mounts)


def _volumes(template: Object, objects: list[Object], directory: Path) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for volume in template["spec"].get("volumes", ()):
        folder = directory / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        folders[volume["name"]] = folder
        content: dict[str, str] = {}
        if "configMap" in volume:
            content = find(objects, "ConfigMap", volume["configMap"]["name"])["data"]
        elif "secret" in volume:
            held = find(objects, "Secret", volume["secret"]["secretName"])["stringData"]
            content = {item["path"]: held[item["key"]] for item in volume["secret"]["items"]}
        for name, text in content.items():
            (folder / name).write_text(text)
    mounts = template["spec"]["containers"][0].get("volumeMounts", ())
    for mount in mounts:
        folders.setdefault(mount["name"], directory / mount["name"]).mkdir(parents=True, exist_ok=True)
    return {
        mount["mountPath"]: folders[mount["name"]]
        for mount in template["spec"]["containers"][0].get("volumeMounts", ())
    }


def _environment(container: Object, objects: list[Object]) -> dict[str, str]:
    values: dict[str, str] = {}
    for entry in container.get("envFrom", ()):
        if "configMapRef" in entry:
            values |= find(objects, "ConfigMap", entry["configMapRef"]["name"])["data"]
        else:
            values |= find(objects, "Secret", entry["secretRef"]["name"])["stringData"]
    for entry in container.get("env", ()):
        if "value" in entry:
            values[entry["name"]] = entry["value"]
        else:
            place = entry["valueFrom"]["secretKeyRef"]
            values[entry["name"]] = find(objects, "Secret", place["name"])["stringData"][place["key"]]
    return values


def _moved(text: str, mounts: Mapping[str, Path]) -> str:
    """A path below a mount, alone or after a `=`, as it is on this machine."""
    if not mounts:
        return text
    longest_first = "|".join(re.escape(mount) for mount in sorted(mounts, key=len, reverse=True))
    return re.sub(rf"(^|=)({longest_first})(?=/|$)", lambda match: f"{match[1]}{mounts[match[2]]}", text)


def program_path(*folders: Path) -> str:
    """These folders before the machine's own."""
    return os.pathsep.join([*map(str, folders), os.environ["PATH"]])
