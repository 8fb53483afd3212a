"""Check the project's English: banned phrases and the first words of docstrings.

    python setup/check_words.py [PATH ...]

Reads Python (docstrings, comments, string literals, names), Markdown, notebooks, YAML, shell, C and build files
below the paths, by default all that git tracks. Prints one line per finding and exits with 1 if there is any. The
rules and their replacements are in docs/glossary.md.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

PHRASES = {
    r"\b(?:told|tells?|telling)\b": "report, log, pass, say",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bso many\b": "the number",
    r"\b(?:go|goes|going|gone|went) on\b": "continue, resume",
    r"\b(?:lies?|lay|lying|lie) ready\b": "is ready, exists",
    r"\bof (?:ours|yours|theirs|hers|his)\b": "our, your",
    r"\bof (?:one's|my|our|the user's|somebody's) own\b": "your, its own X",
    r"(?<!there )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|fewer\b|better\b|worse\b|different\b|need\b)\w": (
        "is not a"
    ),
    r"\b(?:has|have|had|with) in (?:its|their|his|her|the) hands?\b": "holds",
    r"\b(?:come|comes|came|coming) into being\b": "is created",
    r"\b(?:lets?|letting) \w+ (?:not )?in\b": "accepts",
    r"\b(?:lets|letting) in\b": "accepts",
    r"\bspeaks? for\b": "indicates",
    r"\bas far as can be\b": "if known",
    r"\bonce more, and\b": "again to",
    r"\bwhat (?:is|was|are|were) \w+ (?:is|was|are|were)\b": "a sentence with a subject",
}
PATTERN = re.compile("|".join(f"({phrase})" for phrase in PHRASES), re.IGNORECASE)
REMEDIES = list(PHRASES.values())
NAME_WORDS = {"told", "tell", "tells", "telling", "mend", "mended", "ours", "chief"}
OPENINGS = re.compile(r"(?:What|Whether|Who|Whom|Whose|How|Where|Why|That|Is|Are|Was) ")
TEXT_SUFFIXES = {".md", ".ipynb", ".yaml", ".yml", ".sh", ".c", ".j2", ".toml", ".properties", ".txt", ".cfg", ".sql"}
TEXT_NAMES = {"Makefile", "Dockerfile", "run"}

Finding = tuple[int, str]


def findings_in_text(text: str, line: int = 1) -> Iterator[Finding]:
    """Yield the banned phrases of a text, also those that a line break divides."""
    flat = re.sub(r"(\n\s*(?:#|//|\*)?\s*)", lambda match: " " * len(match.group()), text)
    for match in PATTERN.finditer(
        re.sub(r" {2,}", lambda run: " " + "\0" * (len(run.group()) - 1), flat).replace("\0", "")
    ):
        remedy = REMEDIES[match.lastindex - 1] if match.lastindex else ""
        yield line + _line_of(text, match.group()), f"{match.group()!r}: {remedy}"


def _line_of(text: str, phrase: str) -> int:
    pattern = r"[\s#]+".join(re.escape(word) for word in phrase.split())
    found = re.search(pattern, text, re.IGNORECASE)
    return text.count("\n", 0, found.start()) if found else 0


def findings_in_python(source: str) -> Iterator[Finding]:
    """Yield the findings in comments, strings, docstrings and defined names of a Python module."""
    yield from _comments(source)
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from findings_in_text(node.value, node.lineno)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            docstring = ast.get_docstring(node) or ""
            if OPENINGS.match(docstring):
                line = getattr(node, "lineno", 1)
                yield line, f"docstring begins with {docstring.split()[0]!r}: an imperative or a noun phrase"
        yield from _names(node)


def _comments(source: str) -> Iterator[Finding]:
    """Yield the findings in comments; consecutive comment lines are read as one text."""
    block: list[str] = []
    start = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != last + 1:
            yield from findings_in_text("\n".join(block), start)
            block = []
        if not block:
            start = token.start[0]
        block.append(token.string)
        last = token.start[0]
    yield from findings_in_text("\n".join(block), start)


def _names(node: ast.AST) -> Iterator[Finding]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        name = node.name
        if name.startswith("test_"):
            for _, text in findings_in_text(name.removeprefix("test_").replace("_", " ")):
                yield node.lineno, f"test name {text}"
            return
    elif isinstance(node, ast.arg):
        name = node.arg
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        name = node.id
    else:
        return
    if name == "tell" and isinstance(node, ast.FunctionDef):
        return  # a method of Python's file protocol
    words = set(re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower().split("_")) & NAME_WORDS
    if words:
        yield node.lineno, f"name {name}: {', '.join(sorted(words))}"


def files(paths: list[str]) -> list[Path]:
    """List the tracked and new files below the paths that the check reads."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *paths],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    chosen = [Path(name) for name in sorted(set(listed))]
    return [path for path in chosen if path.is_file() and _is_read(path)]


def _is_read(path: Path) -> bool:
    if path.name in {"check_words.py", "requirements.lock"} or path.suffix == ".lock":
        return False
    return path.suffix in {".py", ".pyi"} | TEXT_SUFFIXES or path.name in TEXT_NAMES


def main() -> int:
    """Print all findings; return 1 if there is any."""
    count = 0
    for path in files(sys.argv[1:]):
        source = path.read_text(encoding="utf-8")
        found = findings_in_python(source) if path.suffix in {".py", ".pyi"} else findings_in_text(source)
        for line, text in sorted(set(found)):
            print(f"{path}:{line}: {text}")
            count += 1
    print(f"check_words: {count} findings", file=sys.stderr)
    return int(count > 0)


if __name__ == "__main__":
    raise SystemExit(main())
