"""Modules of the user's transform, found without importing them: beside the job file, with what they import there."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

from farandole.errors import DataError, closest_match


def transform_modules(reference: str, folder: str | Path | None) -> dict[str, Path]:
    """Find the transform's module and the modules of the same folder that it imports, directly or not.

    Args:
        reference: `module:function`.
        folder: The folder of the job file.

    Returns:
        Module name to file, the transform's own module first.

    Raises:
        DataError: The module does not exist, or is not valid Python.
    """
    folder = Path(folder or ".")
    name = reference.split(":")[0]
    path = module_file(name, folder)
    if path is None:
        close = closest_match(name, [file.stem for file in folder.glob("*.py")]) if folder.is_dir() else None
        hint = f"did you mean {close}?" if close else f"put {name.split('.')[0]}.py beside the job file ({folder})"
        raise DataError(f"data.transform: {reference}: there is no module {name}; {hint}")
    found = {name: path}
    pending = [name]
    while pending:
        module = pending.pop()
        for imported in _imports(module, found[module], reference):
            file = module_file(imported, folder)
            if file is not None and imported not in found:
                found[imported] = file
                pending.append(imported)
    return found


def transform_digest(modules: dict[str, Path]) -> str:
    """Return the SHA-256 over the names and texts of the modules: any change of them prepares the dataset again."""
    digest = hashlib.sha256()
    for module, path in sorted(modules.items()):
        text = path.read_bytes()
        digest.update(f"{module}\0{len(text)}\0".encode() + text)
    return digest.hexdigest()


def module_file(module: str, folder: Path) -> Path | None:
    """Return the file of a module in a folder, None if the folder has no such module."""
    path = folder.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imports(module: str, path: Path, reference: str) -> Iterator[str]:
    """Yield every module that a file may import, anywhere in it, and the packages that contain these modules."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise DataError(f"data.transform: {reference}: {path}{line}: {reason}; fix the module") from error
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" if base else alias.name for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1) if parts[0])
