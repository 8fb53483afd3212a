"""YAML as job files use it: texts stay as they are written, and every fault is explained with its line.

The schema is that of YAML 1.2: `no`, `on`, `yes`, `010`, `12:30` and dates are texts; only `true` and `false` are
booleans. Keys are always texts, so that columns may be called `no`, `2013` or `null`, and so are the values of fields
that name columns or list texts of files: `null_values: [-999, null]` means what it says.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from farandole.errors import SpecError

_TAG = "tag:yaml.org,2002:"
_TEXT_FIELDS = """
    name column columns label null_values path by time positive special_tokens leave_out separator quote
"""
_AS_WRITTEN = frozenset(_TEXT_FIELDS.split())
"""Fields whose values, or items, are texts even if they look like numbers."""
_FREE_FORM = frozenset(("options", "transform_options"))
"""Fields with a user's own content."""
_MAX_VALUES = 100_000
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_SHOWN = 40


class _Loader(yaml.SafeLoader):
    """Loader of one document in the schema of YAML 1.2, where `1e-3` and `10_000` are numbers."""


_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in (
    ("null", r"|~|null|Null|NULL", ["", "~", "n", "N"]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|\.[0-9]+([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
        r"|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)


class Document:
    """The content of a YAML text, and the lines that its values are on.

    Args:
        root: The node of the whole text; None: it is empty.
        loader: The loader that made it.
    """

    def __init__(self, root: yaml.Node | None, loader: yaml.SafeLoader) -> None:
        self._root = root
        self.value: Any = None if root is None else loader.construct_document(root)

    def line_of(self, field_path: str) -> int | None:
        """Return the line, from 1, of the field that a dotted path names, or of the last of its parents that exists."""
        node, rest, line = self._root, field_path, None
        while rest and node is not None:
            found = next(((key, child) for key, child in _children(node) if _begins_with(rest, key)), None)
            if found is None:
                break
            rest = rest[len(found[0]) :].removeprefix(".")
            node = found[1]
            line = node.start_mark.line + 1
        return line


def _children(node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    """Yield the children of a node with their keys, the longest keys first."""
    if isinstance(node, yaml.MappingNode):
        pairs = [(str(key.value), value) for key, value in node.value if isinstance(key, yaml.ScalarNode)]
        yield from sorted(pairs, key=lambda pair: -len(pair[0]))
    elif isinstance(node, yaml.SequenceNode):
        yield from reversed([(str(index), value) for index, value in enumerate(node.value)])


def _begins_with(field_path: str, key: str) -> bool:
    return field_path == key or field_path.startswith(f"{key}.")


def read_yaml(text: str, origin: str, field: str = "") -> Document:
    """Read a YAML text.

    Args:
        text: The text.
        origin: The file or option that it comes from, as a prefix of errors.
        field: The name of the field that the text is the value of. Default: it is a whole job file.

    Raises:
        SpecError: It is not YAML, names a key twice, or refers to itself.
    """
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        raise SpecError(f"{origin}: {_describe_character(text, error)}") from None
    try:
        root = loader.get_single_node()
        if root is not None:
            _check_size(origin, root)
            _prepare(origin, root, field)
        return Document(root, loader)
    except yaml.MarkedYAMLError as error:
        raise SpecError(f"{origin}: {_describe(text, error)}") from None
    except RecursionError:
        raise SpecError(f"{origin}: is nested too deeply for a job file; write fewer levels") from None
    except ValueError as error:  # such as a number of more digits than Python reads
        raise SpecError(f"{origin}: holds a value that cannot be read ({error}); put it in quotes") from None
    finally:
        loader.dispose()


def decode_text(content: bytes, path: Path) -> str:
    """Return the text of a job file: UTF-8, or what its byte order mark names.

    Raises:
        SpecError: It is in another encoding.
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = content[error.start : error.start + 1].hex()
        raise SpecError(f"{path}: line {line}: byte 0x{found} is not UTF-8 text; save the file as UTF-8") from None


def _check_size(origin: str, root: yaml.Node) -> None:
    """Count the values of a document as often as aliases repeat them.

    Raises:
        SpecError: There are too many, or a value contains itself.
    """
    counts: dict[int, int] = {}
    open_nodes: set[int] = set()

    def count(node: yaml.Node) -> int:
        if id(node) in open_nodes:
            line = node.start_mark.line + 1
            raise SpecError(f"{origin}: line {line}: the anchored value contains an alias of itself; write it out")
        if id(node) not in counts:
            open_nodes.add(id(node))
            children = [child for pair in node.value for child in pair] if isinstance(node, yaml.MappingNode) else []
            children = list(node.value) if isinstance(node, yaml.SequenceNode) else children
            counts[id(node)] = 1 + sum(map(count, children))
            open_nodes.discard(id(node))
        return counts[id(node)]

    if count(root) > _MAX_VALUES:
        raise SpecError(f"{origin}: holds more than {_MAX_VALUES:,} values; remove aliases that repeat each other")


def _prepare(origin: str, node: yaml.Node, field: str) -> None:
    """Make texts of keys and of fields that hold texts, and check that no key is written twice."""
    done: set[tuple[int, str]] = set()

    def visit(node: yaml.Node, field: str) -> None:
        if (id(node), field) in done:
            return
        done.add((id(node), field))
        _check_tag(origin, node)
        if isinstance(node, yaml.MappingNode):
            _check_keys(origin, node)
            for key, value in node.value:
                visit(value, "" if field in _FREE_FORM or key.tag == _TAG + "merge" else str(key.value))
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                visit(item, field if field in _AS_WRITTEN else "")
        elif field in _AS_WRITTEN and node.tag in _looks_like(field) and (node.value or field == "null_values"):
            node.tag = _TAG + "str"

    visit(node, field)


def _check_tag(origin: str, node: yaml.Node) -> None:
    """Check that a value has one of the types of a job file.

    Raises:
        SpecError: It is tagged otherwise, such as `!!set` or `!mine`.
    """
    if node.tag.removeprefix(_TAG) not in ("null", "bool", "int", "float", "str", "map", "seq", "value"):
        line, tag = node.start_mark.line + 1, node.tag.replace(_TAG, "!!")
        raise SpecError(f"{origin}: line {line}: the tag {tag} is not known; remove it")


def _looks_like(field: str) -> set[str]:
    """Return the tags that a field with texts turns into text; `null` and `true` are values of some of them."""
    kinds = {"int", "float"} | ({"null"} if field == "null_values" else set())
    kinds |= set() if field == "positive" else {"bool"}
    return {_TAG + kind for kind in kinds}


def _check_keys(origin: str, node: yaml.MappingNode) -> None:
    """Make texts of the keys of a mapping.

    Raises:
        SpecError: A key is not a word, or is written twice.
    """
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise SpecError(f"{origin}: line {line}: a key must be a word, not a list or a mapping")
        if key.tag == _TAG + "merge":
            continue
        if key.value in lines:
            raise SpecError(
                f"{origin}: line {line}: the key `{key.value}` is written twice; remove one (the other is on line"
                f" {lines[key.value]})"
            )
        lines[key.value] = line
        key.tag = _TAG + "str"


_CAUSES = (
    (r"found character '\\t'", "a tab indents it; indent with spaces"),
    (r"found character '(.)'", r"no value can begin with `\1`; put it in quotes"),
    (r"mapping values are not allowed", "a `:` is out of place; put the text in quotes, or correct the indentation"),
    (r"could not find expected ':'", "a `key: value` is not complete; add the `:`, or close a quote before it"),
    (
        r"expected ',' or '[\]}]'|expected the node content",
        "a bracket is not closed, or a comma is missing; correct it",
    ),
    (r"found unexpected end of stream|while scanning a quoted", "a quote is not closed; close it"),
    (r"undefined alias", "the alias has no anchor; write `&name` at the value that it repeats"),
    (r"duplicate anchor", "the anchor is used twice; rename one"),
    (r"expected a single document", "a second document begins; put each job in a file of its own"),
    (r"could not determine a constructor", "the tag (`!…`) is not known; remove it"),
    (
        r"unknown escape|expected escape",
        "the escape in double quotes is not known; use single quotes, or two backslashes",
    ),
    (r"expected a mapping", "`<<` merges mappings only; give it a mapping"),
    (r"expected|did not find", "the indentation or a bracket is wrong; align keys of one level"),
)


def _describe(text: str, error: yaml.MarkedYAMLError) -> str:
    """Return what is wrong with a text, at which line."""
    said = f"{error.context or ''} {error.problem or ''}"
    meanings = ((match, meaning) for pattern, meaning in _CAUSES if (match := re.search(pattern, said)))
    match, meaning = next(meanings, (None, "is not YAML; put texts with special characters in quotes"))
    mark = error.problem_mark or error.context_mark
    if error.context_mark is not None and "not closed" in meaning:
        mark = error.context_mark  # where the bracket or the quote is opened
    line = mark.line if mark else 0
    lines = text.splitlines()
    content = lines[line].strip() if line < len(lines) else ""
    shown = content if len(content) <= _SHOWN else content[: _SHOWN - 1] + "…"
    reason = meaning if match is None else match.expand(meaning)
    return f"line {line + 1}: {shown}: {reason}" if shown else f"line {line + 1}: {reason}"


def _describe_character(text: str, error: yaml.reader.ReaderError) -> str:
    position = error.position if isinstance(error.position, int) else 0
    line = text.count("\n", 0, position) + 1
    code = error.character if isinstance(error.character, int) else ord(str(error.character)[0])
    return f"line {line}: holds the character U+{code:04X}, which YAML does not allow; remove it"
