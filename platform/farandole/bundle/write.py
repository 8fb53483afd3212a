"""Writing of bundles: into a draft directory that is renamed once its manifest is there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farandole.bundle.manifest import read_manifest, write_manifest
from farandole.errors import BundleError
from farandole.preprocess import Preprocessing, RawForm
from farandole.process.atomic import atomic_directory
from farandole.process.json_text import json_text

if TYPE_CHECKING:
    from torch import nn

MODEL, PREPROCESSING, ROWS = "model.json", "preprocessing.json", "rows.json"
OWN_BUILDERS = "farandole.models."
"""The beginning of the names of builders that this package has."""
CODE = "code"
"""Folder of the user's modules, in a bundle whose network cannot be used without them."""
_LIBRARIES = ("farandole", "torch", "numpy", "pyarrow", "tokenizers", "pillow")


@dataclass(frozen=True)
class BundleContents:
    """Parts of a bundle.

    Args:
        name: Name of the model.
        builder: `module:function` that builds the network.
        options: Keyword arguments of the builder.
        preprocessing: The fitted preprocessing.
        row_forms: Raw column to how the sources write it.
        documents: More files: name to a JSON document, or to text.
        code: The user's modules and packages, needed only where torch.export cannot follow the network.
    """

    name: str
    builder: str
    options: Mapping[str, Any]
    preprocessing: Preprocessing
    row_forms: Mapping[str, RawForm] = field(default_factory=dict)
    documents: Mapping[str, Any] = field(default_factory=dict)
    code: Sequence[Path] = ()


def write_bundle(directory: Path, network: nn.Module, contents: BundleContents) -> str | None:
    """Write a bundle.

    Args:
        directory: Its directory, which must not exist.
        network: The trained network.
        contents: Everything else.

    Returns:
        Why the bundle has no form `program`; None if it has.

    Raises:
        BundleError: The directory exists.
    """
    if directory.exists():
        raise BundleError(f"{directory}: exists already; name a new directory")
    network = network.cpu().eval()
    with atomic_directory(directory) as draft:
        problem = _write_network(network, contents, draft)
        (draft / PREPROCESSING).write_text(json.dumps(contents.preprocessing.to_dict()), encoding="utf-8")
        rows = {name: form.to_dict() for name, form in contents.row_forms.items()}
        (draft / ROWS).write_text(json.dumps(rows), encoding="utf-8")
        for name, document in contents.documents.items():
            text = document if isinstance(document, str) else json_text(document, indent=1) + "\n"
            (draft / name).write_text(text, encoding="utf-8")
        write_manifest(draft, contents.name)
    return problem


def add_form(folder: Path, name: str, files: Mapping[str, bytes | Path], entry: Mapping[str, Any]) -> None:
    """Add a form of the network to a bundle, and write its manifest again, without a signature.

    Args:
        folder: The bundle.
        name: Name of the form: `onnx`, `int8`.
        files: Name of each file to its content or to a file to copy.
        entry: The form's entry in `model.json`; `file` names the file to load, `tolerance` the largest difference.
    """
    _, manifest = read_manifest(folder)
    for file, content in files.items():
        if isinstance(content, bytes):
            (folder / file).write_bytes(content)
        else:
            shutil.copyfile(content, folder / file)
    document = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    document["forms"][name] = dict(entry)
    (folder / MODEL).write_text(json_text(document, indent=1) + "\n", encoding="utf-8")
    write_manifest(folder, manifest["name"])


def _write_network(network: nn.Module, contents: BundleContents, folder: Path) -> str | None:
    """Write the network's forms and `model.json`; return why torch.export cannot follow the network."""
    from farandole.bundle.network import WEIGHTS, save_weights
    from farandole.bundle.program import PROGRAM, save_program

    save_weights(network, folder / WEIGHTS)
    is_own = contents.builder.startswith(OWN_BUILDERS)
    forms: dict[str, Any] = {"eager": {"file": WEIGHTS}} if is_own else {}
    problem, code = None, []
    preprocessing = contents.preprocessing
    example = preprocessing.features(preprocessing.raw_batch(preprocessing.example()))
    try:
        save_program(network, example, folder / PROGRAM)
        forms["program"] = {"file": PROGRAM}
    except Exception as error:  # noqa: BLE001 - whatever error a user's forward causes in torch.export
        problem = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if not is_own:
            code = [_copy_code(path, folder / CODE) for path in contents.code]
            forms["eager"] = {"file": WEIGHTS}
    schema = preprocessing.schema
    document = {
        "builder": contents.builder,
        "options": dict(contents.options),
        "label": schema.target.model_dump(mode="json"),
        "schema": schema.model_dump(mode="json"),
        "columns": {column: preprocessing.types[column] for column in preprocessing.columns},
        "forms": forms,
        "code": code,
        "versions": {name: version(name) for name in _LIBRARIES},
    }
    (folder / MODEL).write_text(json_text(document, indent=1) + "\n", encoding="utf-8")
    return problem


def _copy_code(path: Path, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copyfile(path, folder / path.name)
    return path.name
