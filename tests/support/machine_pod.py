"""Container of a rendered manifest, run as a process of this machine.

Command, arguments, environment and volumes are those of the manifest, except for what the test replaces: ports,
addresses, and the location of the image's programs.
"""

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
    """Container that can be run.

    Args:
        command: Command and arguments.
        environment: Complete environment.
        mounts: Mount paths, and the folders that replace them.
    """

    command: list[str]
    environment: dict[str, str]
    mounts: dict[str, Path]

    def run(
        self, *command: str, stdin: str = "", more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command of the container, or another one, and wait until it ends.

        Args:
            command: Another command.
            stdin: Standard input.
            more: Additional environment.
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
        return _replace_mounts(text, self.mounts)


def machine_pod(
    template: Object,
    objects: list[Object],
    directory: Path,
    *,
    path: str,
    environment: Mapping[str, str] | None = None,
    arguments: Mapping[str, str] | None = None,
) -> MachinePod:
    """Return the first container of a pod template.

    Args:
        template: The template.
        objects: ConfigMaps and Secrets that it refers to.
        directory: Directory of its volumes.
        path: PATH of its programs.
        environment: Replaced environment variables.
        arguments: Replaced arguments: `--name` and its value, or whole arguments.
    """
    container = template["spec"]["containers"][0]
    mounts = _volumes(template, objects, directory)
    values = {name: _replace_mounts(value, mounts) for name, value in _environment(container, objects).items()}
    values |= {"PATH": path, "TMPDIR": tempfile.gettempdir(), **(environment or {})}
    command = [*container.get("command", ()), *container.get("args", ())]
    command = [
        _replace_mounts(re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], each), mounts) for each in command
    ]
    for name, value in (arguments or {}).items():
        indices = [index for index, each in enumerate(command) if each == name or each.startswith(f"{name}=")]
        assert len(indices) == 1, f"{name}: {len(indices)} times in {command}"
        command[indices[0]] = f"{name}={value}" if "=" in command[indices[0]] else value
    return MachinePod(command, values, mounts)


def _volumes(template: Object, objects: list[Object], directory: Path) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for volume in template["spec"].get("volumes", ()):
        folder = directory / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        folders[volume["name"]] = folder
        content: dict[str, str] = {}
        mode = volume.get("secret", {}).get("defaultMode", 0o644)
        if "configMap" in volume:
            content = find(objects, "ConfigMap", volume["configMap"]["name"])["data"]
        elif "secret" in volume:
            held = find(objects, "Secret", volume["secret"]["secretName"])["stringData"]
            content = {item["path"]: held[item["key"]] for item in volume["secret"]["items"]}
        for name, text in content.items():
            (folder / name).write_text(text)
            (folder / name).chmod(mode)
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
            source = entry["valueFrom"]["secretKeyRef"]
            values[entry["name"]] = find(objects, "Secret", source["name"])["stringData"][source["key"]]
    return values


def _replace_mounts(text: str, mounts: Mapping[str, Path]) -> str:
    """Replace a path below a mount, alone or after a `=`, by the path on this machine."""
    if not mounts:
        return text
    longest_first = "|".join(re.escape(mount) for mount in sorted(mounts, key=len, reverse=True))
    return re.sub(rf"(^|=)({longest_first})(?=/|$)", lambda match: f"{match[1]}{mounts[match[2]]}", text)


def program_path(*folders: Path) -> str:
    """Return a PATH with these folders before those of the machine."""
    return os.pathsep.join([*map(str, folders), os.environ["PATH"]])
