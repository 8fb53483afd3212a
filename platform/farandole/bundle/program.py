"""The network of a bundle as a program of torch.export, which needs no builder.

An archive of torch.export may hold pickles, and its loader calls whatever function the program names and evaluates its
expressions of sizes as Python. Therefore a program is written without a pickle, and loaded only after a check that it
holds none, names functions of tensors alone, and has expressions of sizes alone.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from farandole.bundle.network import as_function
from farandole.bundle.predictor import Compute
from farandole.errors import BundleError

PROGRAM = "network.pt2"
_MEMBERS = re.compile(
    r"[^/]+/(data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|models/model\.json|data/sample_inputs/model\.pt|archive_format|archive_version|byteorder|\.data/\w+)"
)
"""Names of the files in an archive that is loaded."""
_FUNCTIONS = re.compile(
    r"torch\.ops\.(aten|prims)\.(__(and|or|xor|lshift|rshift)__|(?!__|from_file)\w+)\.(?!_)\w+|torch\.sym_\w+|torch\._sym_sqrt"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)|math\.(ceil|floor|trunc)"
)
"""Functions that a program may name: operators on tensors, and arithmetic of their sizes."""
_EXPRESSION = re.compile(
    r"(?:Symbol\('[su]\d+'(?:, (?:positive|nonnegative|integer)=True)*\)|[su]\d+|\d++(?:\.\d++)?|True|False"
    r"|[A-Z][A-Za-z]*+(?=\()|[-+*/(),\s<>=!&|~])*+"
)
"""Expressions of sizes: symbols, numbers, functions of sympy by name, and operators; no names, texts or attributes."""


_source: ContextVar[Callable[[Path], bool] | None] = ContextVar("program_source", default=None)


@contextmanager
def program_source(take: Callable[[Path], bool]) -> Iterator[None]:
    """Let `save_program` take the program from elsewhere inside the block: another process exports the same network.

    Args:
        take: Writes the program to a path; returns whether there is one.
    """
    token = _source.set(take)
    try:
        yield
    finally:
        _source.reset(token)


def save_program(network: nn.Module, features: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a network as a program.

    Args:
        network: The network, in evaluation mode.
        features: Features of one row.
        path: The file.

    Raises:
        Exception: torch.export cannot follow the network, or only with parts that are pickled.
    """
    take = _source.get()
    if take is not None and take(path):
        return
    # Two rows, since torch.export would specialize a batch size of one.
    groups = {name: torch.from_numpy(values).repeat_interleave(2, 0) for name, values in features.items()}
    rows = torch.export.Dim("rows")
    shapes = ({name: {0: rows} for name in groups},)
    program = torch.export.export(MappingNetwork(network), (groups,), dynamic_shapes=shapes, strict=False)
    program._example_inputs = None  # torch.export.save would pickle them
    torch.export.save(program, path)
    try:
        check_program(path)
    except BundleError:
        path.unlink()
        raise


def load_program(path: Path) -> Compute:
    """Load a program after checking it; see `load_module`."""
    return as_function(load_module(path))


def load_module(path: Path) -> fx.GraphModule:
    """Load a program as a module of a graph, which takes its groups as one mapping, after checking it.

    Raises:
        BundleError: The program holds a pickle or code, or torch cannot load it.
    """
    check_program(path)
    try:
        program = torch.export.load(path).module()
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise BundleError(f"{path}: torch {torch.__version__} cannot load the program ({text})") from error
    return program


def check_program(path: Path) -> None:
    """Check that loading a program runs no code but torch's own.

    Raises:
        BundleError: It might.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            documents = [json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json")]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path}: is not an archive of torch.export ({error}); export the model again") from error
    for entry in _mappings(documents):
        if entry.get("use_pickle"):
            raise _refusal(path, "a pickled weight")
        target, expression = entry.get("target"), entry.get("expr_str", "")
        if "inputs" in entry and "target" in entry and not _FUNCTIONS.fullmatch(str(target)):
            raise _refusal(path, f"the function {target!r}")
        if not _EXPRESSION.fullmatch(str(expression)):
            raise _refusal(path, f"the expression {str(expression)[:80]!r}")


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    for member in archive.infolist():
        if not _MEMBERS.fullmatch(member.filename):
            raise _refusal(path, f"the file {member.filename}")
        if member.filename.endswith("/sample_inputs/model.pt") and member.file_size:
            raise _refusal(path, "pickled example inputs")


def _mappings(document: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping of a document."""
    if isinstance(document, dict):
        yield document
        document = list(document.values())
    if isinstance(document, list):
        for value in document:
            yield from _mappings(value)


def _refusal(path: Path, found: str) -> BundleError:
    return BundleError(
        f"{path}: holds {found}, which could run code when it is loaded; a program of a bundle has operators on tensors"
        " alone"
    )


class MappingNetwork(nn.Module):
    """A network that takes its groups as one mapping, since torch.export cannot describe the shapes of `**groups`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, groups: dict[str, torch.Tensor]) -> torch.Tensor:
        """Apply the network to the groups."""
        outputs: torch.Tensor = self.network(**groups)
        return outputs
