"""Rules of the code base that no linter knows: who may use what, and how large files and packages may be."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

from tests.support.paths import PACKAGE

MOST_LINES = 450
MOST_FILES = 15
SMALL_LINES = 60

_JOB_FILES = re.compile(
    r"^(job\.json|status\.json|events\.jsonl|start\.json|scale\.json|runner\.lock|foreground\.json|foreground\.lock|environment\.json|away\.json|job\.log"
    r"|progress\.json|trial\.jsonl|outcome\.json|result\.json|record\.json|commit\.json|launcher\.log|mlflow_run_id"
    r"|attempt-|rank-)$"
)
"""Names of files in a job's directory, and the beginnings of those with a number."""
_KEYS = {"mlflow_run_id"}
"""Names that are keys of documents as well; only a path made of them is a file."""

_OTHER_DIRECTORIES = {"ingest/spark/worker_environment.py"}
"""Files that name a file of their own like one of a job's directory."""
_EXTENSIONS = {"farandole.loading": "rows"}
"""Modules in C."""
_SMALL_FILES = {
    "cli/sweep.py": "one module for each group of commands",
    "launch/script.py": "the launcher of benchmarks and tests that run a script without a job",
    "training/consensus.py": "an agreement of ranks, tested without the rest of the checkpoint controller",
}
"""Small files with one importer, and why."""
_FOREIGN_TEXTS = {"ingest/rules/user_transform.py"}
"""Files that read the messages of other programs."""
_PROCESS_CALLS = {"flock", "setsid", "prctl", "posix_spawn"}
_MODULES = sorted(PACKAGE.rglob("*.py"))


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _in_room(path: Path, room: str) -> bool:
    return path.relative_to(PACKAGE).parts[0] == room


def _documentation(tree: ast.AST) -> set[int]:
    """Return the ids of the strings that are statements, and so documentation."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def _strings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string that is not documentation, of f-strings each constant part."""
    tree = _tree(path)
    documentation = _documentation(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value


def _paths(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string that is joined to a path."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
            yield node.lineno, str(node.right.value)


def test_only_jobdir_spells_the_file_names_of_a_jobs_directory() -> None:
    found = [
        f"{_name(path)}:{line}: {text}"
        for path in _MODULES
        if not _in_room(path, "jobdir") and _name(path) not in _OTHER_DIRECTORIES
        for line, text in [*((line, text) for line, text in _strings(path) if text not in _KEYS), *_paths(path)]
        if _JOB_FILES.match(text)
    ]
    assert found == []


def test_only_process_locks_replaces_and_detaches() -> None:
    found = []
    for path in (path for path in _MODULES if not _in_room(path, "process")):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Attribute):
                is_replace = isinstance(node.value, ast.Name) and (node.value.id, node.attr) == ("os", "replace")
                if node.attr in _PROCESS_CALLS or is_replace:
                    found.append(f"{_name(path)}:{node.lineno}: {node.attr}")
            if isinstance(node, ast.Import | ast.ImportFrom) and "fcntl" in ast.unparse(node):
                found.append(f"{_name(path)}:{node.lineno}: fcntl")
    assert found == []


def test_only_process_handles_sigterm() -> None:
    found = [
        f"{_name(path)}:{node.lineno}"
        for path in _MODULES
        if not _in_room(path, "process")
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call) and re.match(r"signal\.signal\(signal\.SIGTERM", ast.unparse(node))
    ]
    assert found == []


def test_no_code_compares_the_name_of_a_backend() -> None:
    """A backend says itself what is special about it, through its protocol."""
    found = []
    for path in _MODULES:
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Compare):
                sides = [side.value for side in (node.left, *node.comparators) if isinstance(side, ast.Constant)]
                is_key = isinstance(node.ops[0], ast.In | ast.NotIn) and len(sides) == 1
                if {"local", "hosts", "kubernetes"} & set(sides) and not is_key:
                    found.append(f"{_name(path)}:{node.lineno}: {ast.unparse(node)}")
    assert found == []


def test_no_state_is_decided_by_a_sentence() -> None:
    """A reason or an error is text for people: no code looks for words in it."""
    sentence = re.compile(r"\b(reason|message|str\(error\)|outcome)\.(endswith|startswith|partition)\(")
    found = [
        f"{_name(path)}:{number}: {line.strip()}"
        for path in _MODULES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if sentence.search(line) and _name(path) not in _FOREIGN_TEXTS
    ]
    assert found == []


@pytest.mark.parametrize("path", _MODULES, ids=_name)
def test_file_is_not_too_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_large_package_explains_itself() -> None:
    """A package of more than 15 files says how many it has, and why, in its docstring: "hence 17 files"."""
    found = []
    for folder in sorted({path.parent for path in _MODULES}):
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
        if len(files) > MOST_FILES and not re.search(r"\d+ files", docstring):
            found.append(f"{folder.name}: {len(files)} files")
    assert found == []


def _import_graph() -> grimp.ImportGraph:
    """Return all imports between modules; without a cache, which git's changes of files can deceive."""
    return grimp.build_graph(
        "farandole", include_external_packages=False, exclude_type_checking_imports=True, cache_dir=None
    )


def test_modules_do_not_import_each_other_in_circles() -> None:
    graph = _import_graph()
    for package, extension in _EXTENSIONS.items():  # which the graph takes for an import of the package
        for importer in graph.find_modules_that_directly_import(package):
            lines = [each["line_contents"] for each in graph.get_import_details(importer=importer, imported=package)]
            if all(line == f"from {package} import {extension}" for line in lines):
                graph.remove_import(importer=importer, imported=package)
    circles = [
        f"{importer} -> {imported}"
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if importer != imported and graph.chain_exists(importer=imported, imported=importer)
    ]
    assert sorted(circles) == []


def test_small_file_has_two_importers_or_is_an_entry_point() -> None:
    graph = _import_graph()
    sources = {path: path.read_text(encoding="utf-8") for path in _MODULES}
    found = []
    for path in (path for path in _MODULES if path.name not in ("__init__.py", "__main__.py")):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        importers = graph.find_modules_that_directly_import(module)
        is_exported = module.rpartition(".")[0] in importers
        is_entry_point = "__main__" in sources[path] or any(f'"{module}"' in text for text in sources.values())
        is_small = len(sources[path].splitlines()) < SMALL_LINES
        if is_small and len(importers) < 2 and not (is_exported or is_entry_point or _name(path) in _SMALL_FILES):
            found.append(_name(path))
    assert found == []
