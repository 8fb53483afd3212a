"""Functions of texts, as Spark computes them, in DuckDB."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from farandole.serving.query.arguments import Arguments, Handler
from farandole.serving.query.patterns import check_pattern, like_pattern, matches_empty
from farandole.serving.query.translated import UntranslatableError
from farandole.serving.query.types import Typed, call, cast_to, choose, derive, fail, integer

_CASED = "[\\x{0}-\\x{de}\\x{e0}-\\x{12f}\\x{132}-\\x{148}\\x{14a}-\\x{17e}\\x{400}-\\x{481}]*"
"""Texts whose upper and lower case both engines agree about: Latin and Cyrillic letters, and all of ASCII."""


def _concat(arguments: Arguments) -> Typed:
    values = [arguments.text(value) for value in [*arguments.values, *arguments.named.values()]]
    node = values[0].node.copy()
    for value in values[1:]:
        node = exp.DPipe(this=node, expression=value.node.copy())
    return derive(exp.Paren(this=node), "string", values)


def _concat_ws(arguments: Arguments) -> Typed:
    values = [arguments.text(value) for value in arguments.values]
    if len(values) < 2:
        raise UntranslatableError("concat_ws without values is not translated")
    return derive(call("concat_ws", *(value.node for value in values)), "string", values)


def _cased(name: str) -> Callable[[Arguments], Typed]:
    """Return the translation of upper or lower: a text with rare letters, whose case is disputed, is an error."""

    def translate(arguments: Arguments) -> Typed:
        value = arguments.text(arguments.count(1)[0])
        is_common = call("regexp_full_match", value.node, exp.Literal.string(_CASED))
        is_missing = exp.Is(this=value.node.copy(), expression=exp.Null())
        checked = choose(is_common, call(name, value.node), fail(f"{name}: a text has letters of rare alphabets"))
        return derive(choose(is_missing, exp.Null(), checked), "string", [value], throws=True)

    return translate


def _trim(arguments: Arguments) -> Typed:
    value = arguments.text(arguments.count(1)[0])
    position = str(arguments.plain.get("position") or "BOTH").upper()
    name = {"BOTH": "trim", "LEADING": "ltrim", "TRAILING": "rtrim"}[position]
    return derive(call(name, value.node, exp.Literal.string(" ")), "string", [value])


def _text_to_number(name: str) -> Callable[[Arguments], Typed]:
    def translate(arguments: Arguments) -> Typed:
        value = arguments.text(arguments.count(1)[0])
        return derive(cast_to(call(name, value.node), "int"), "int", [value])

    return translate


def _substring(arguments: Arguments) -> Typed:
    value = arguments.text(arguments.count(1)[0])
    start = int(arguments.constant(arguments.named.get("start"), "the position"))
    length = arguments.named.get("length")
    if start < 0 and length is not None:
        raise UntranslatableError("substring from the end with a length is not translated; use right")
    if start < 0:
        return derive(call("right", value.node, integer(-start)), "string", [value])
    parts = [value.node, integer(max(start, 1))]
    if length is not None:
        parts.append(integer(max(0, int(arguments.constant(length, "the length")))))
    return derive(call("substring", *parts), "string", [value])


def _side(name: str) -> Callable[[Arguments], Typed]:
    def translate(arguments: Arguments) -> Typed:
        value = arguments.text(arguments.count(1)[0])
        length = max(0, int(arguments.constant(arguments.named.get("expression"), "the length")))
        return derive(call(name, value.node, integer(length)), "string", [value])

    return translate


def _texts(name: str, kind: str = "boolean") -> Callable[[Arguments], Typed]:
    """Return the translation of a function of texts, all of whose arguments are texts."""

    def translate(arguments: Arguments) -> Typed:
        values = [arguments.text(value) for value in [*arguments.values, *arguments.named.values()]]
        node = call(name, *(value.node for value in values))
        return derive(cast_to(node, kind) if kind == "int" else node, kind, values)

    return translate


def _pad(arguments: Arguments) -> Typed:
    value = arguments.text(arguments.count(1)[0])
    length = int(arguments.constant(arguments.named.get("expression"), "the length"))
    fill = arguments.named.get("fill_pattern")
    text = " " if fill is None else arguments.constant(fill, "the fill")
    if length < 0 or not text:
        raise UntranslatableError("lpad and rpad to a negative length, or with an empty text, are not translated")
    name = "lpad" if arguments.plain.get("is_left") else "rpad"
    return derive(call(name, value.node, integer(length), exp.Literal.string(text)), "string", [value])


def _like(arguments: Arguments) -> Typed:
    value = arguments.text(arguments.count(1)[0])
    pattern = like_pattern(arguments.constant(arguments.named.get("expression"), "the pattern"))
    made = exp.Like(this=value.node.copy(), expression=exp.Literal.string(pattern))
    return derive(exp.Paren(this=made), "boolean", [value])


def _matches(arguments: Arguments) -> Typed:
    value = arguments.text(arguments.count(1)[0])
    pattern = check_pattern(arguments.constant(arguments.named.get("expression"), "the pattern"))
    return derive(call("regexp_matches", value.node, exp.Literal.string(pattern)), "boolean", [value])


def _extract(arguments: Arguments) -> Typed:
    value = arguments.text(arguments.count(1)[0])
    pattern = check_pattern(arguments.constant(arguments.named.get("expression"), "the pattern"))
    group = arguments.named.get("group")
    number = 1 if group is None else int(arguments.constant(group, "the group"))
    if number < 0 or number > pattern.count("("):
        raise UntranslatableError(f"regexp_extract: the pattern has no group {number}")
    return derive(call("regexp_extract", value.node, exp.Literal.string(pattern), integer(number)), "string", [value])


def _replace_pattern(arguments: Arguments) -> Typed:
    value = arguments.text(arguments.count(1)[0])
    pattern = check_pattern(arguments.constant(arguments.named.get("expression"), "the pattern"))
    text = arguments.constant(arguments.named.get("replacement"), "the replacement")
    if matches_empty(pattern) or pattern.endswith("\\z") or "\\" in text or "$" in text:
        raise UntranslatableError(
            "regexp_replace is translated for patterns that match at least a character, without $ at the end, and for"
            " replacements without groups only"
        )
    parts = [exp.Literal.string(part) for part in (pattern, text, "g")]
    return derive(call("regexp_replace", value.node, *parts), "string", [value])


TEXT_FUNCTIONS: dict[type[exp.Expression], Handler] = {
    exp.Concat: Handler(_concat),
    exp.DPipe: Handler(_concat, ("expression",)),
    exp.ConcatWs: Handler(_concat_ws),
    exp.Upper: Handler(_cased("upper")),
    exp.Lower: Handler(_cased("lower")),
    exp.Trim: Handler(_trim, ("position",)),
    exp.Length: Handler(_text_to_number("length")),
    exp.Substring: Handler(_substring, ("start", "length")),
    exp.Left: Handler(_side("left"), ("expression",)),
    exp.Right: Handler(_side("right"), ("expression",)),
    exp.Replace: Handler(_texts("replace", "string"), ("expression", "replacement")),
    exp.StartsWith: Handler(_texts("starts_with"), ("expression",)),
    exp.EndsWith: Handler(_texts("suffix"), ("expression",)),
    exp.Contains: Handler(_texts("contains"), ("expression",)),
    exp.StrPosition: Handler(_texts("instr", "int"), ("substr",)),
    exp.Pad: Handler(_pad, ("expression", "fill_pattern", "is_left")),
    exp.Reverse: Handler(_texts("reverse", "string")),
    exp.Like: Handler(_like, ("expression",)),
    exp.RegexpLike: Handler(_matches, ("expression",)),
    exp.RegexpExtract: Handler(_extract, ("expression", "group")),
    exp.RegexpReplace: Handler(_replace_pattern, ("expression", "replacement")),
}
