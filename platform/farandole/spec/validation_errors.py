"""Pydantic's validation errors in the project's form: `field.path: value, rule, remedy`."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from farandole.errors import closest_match
from farandole.spec.base import SecretError, suggested_fields
from farandole.spec.job import Job

_UNION = (Union, types.UnionType)
_TAGS = ("kind", "format", "policy")
"""The discriminator fields of unions."""


def describe_errors(error: ValidationError, raw: Any) -> list[str]:
    """Return one line for each problem.

    Args:
        error: The error that pydantic raised.
        raw: The validated data: distinguishes real keys from the names of union branches in pydantic's locations.
    """
    lines = [line for details in error.errors() for line in _describe(details, raw).splitlines()]
    return list(dict.fromkeys(lines))


def _describe(details: ErrorDetails, raw: Any) -> str:
    error_type, value = details["type"], details.get("input")
    field_path = ".".join(_real_keys(details["loc"], raw, is_missing=error_type == "missing"))
    prefix = f"{field_path}: " if field_path else ""
    if error_type == "extra_forbidden":
        return prefix + _describe_unknown_key(details["loc"])
    if error_type == "missing":
        return f"{prefix}is missing; the job needs it"
    if error_type in ("union_tag_not_found", "union_tag_invalid"):
        context = details.get("ctx", {})
        key = str(context.get("discriminator", "kind")).strip("'")
        choices = ", ".join(tag for tag in map(_tag, _models_at(Job, details["loc"])) if tag)
        found = f"{context['tag']!r} is not known; " if "tag" in context else ""
        return f"{prefix}{found}write `{key}:` with one of {choices}"
    if error_type == "value_error":
        cause = details["ctx"]["error"]
        reason = str(cause)
        show_value = (
            not isinstance(cause, SecretError)
            and isinstance(value, str | int | float)
            and not isinstance(value, bool)
            and str(value) not in reason
        )
        return prefix + (f"{value!r}: {reason}" if show_value else reason)
    if error_type == "source_format":
        return prefix + details["msg"]
    if details["loc"][-1:] == ("[key]",):
        return _describe_key(field_path, str(value))
    if value is None:
        return f"{prefix}is empty; write a value, or remove the field"
    return f"{prefix}{_shorten(value)}: {_rule(details, value)}"


def _describe_key(field_path: str, key: str) -> str:
    parent = field_path.removesuffix(".[key]").removesuffix(f".{key}")
    remedy = " of your own with `column:` for the column of this name" if parent == "data.features" else ""
    return f"{parent}: {key!r} is not a name of letters, digits and `_` that begins with a letter; write one{remedy}"


_LIMITS = {
    "greater_than": ("gt", "must be above {}"),
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than": ("lt", "must be below {}"),
    "less_than_equal": ("le", "must be at most {}"),
    "literal_error": ("expected", "must be {}"),
    "string_pattern_mismatch": ("pattern", "must match the pattern {}"),
    "too_short": ("min_length", "must have at least {} entries"),
    "too_long": ("max_length", "must have at most {} entries"),
    "string_too_short": ("min_length", "must have at least {} characters"),
    "string_too_long": ("max_length", "must have at most {} characters"),
    "multiple_of": ("multiple_of", "must be a multiple of {}"),
}
"""Types of errors to the number or list that pydantic names, and the rule."""
_RULES = (
    (("int_", "int_type"), "must be a whole number"),
    (("finite_number",), "must be a finite number"),
    (("float_", "decimal_"), "must be a number"),
    (("bool_",), "must be true or false"),
    (("string_",), "must be text; put it in quotes"),
    (("dict_", "model_", "mapping_"), "must be fields, `{field: value}`"),
    (("list_", "tuple_", "set_", "frozen_set_", "iterable_"), "must be a list, `[a, b]`"),
    (("none_",), "must be empty"),
)
"""Beginnings of the types of other errors, and the rule."""


_PATTERNS = (
    (r"^[a-z0-9]([a-z0-9-]", "must be lower-case letters a to z, digits and `-`, for example `my-job-2`"),
    (r"^[a-z0-9]([-a-z0-9", "must be lower-case letters a to z, digits, `-` and `.`, as Kubernetes names things"),
    (r"^\d+[kmgt]$", "must be a whole number and a unit, for example `512m` or `4g`"),
    (r"^\d+(\.\d+)?(m|k", "must be a number and a unit of Kubernetes, for example `500m` or `4Gi`"),
    (r"^[A-Za-z_][\w.]*:", "must be `module:function`, for example `clean:clean_rows`"),
    (r"^[A-Za-z_][A-Za-z0-9_]*$", "must be letters a to z, digits and `_`, and begin with a letter"),
    (r"^[\t -~]$", "must be one ASCII character"),
    (r"^/[^:]+$", "must be a path that begins with `/`"),
    (r"^[A-Z]{2}$", "must be a country's code of two capital letters, for example `DE`"),
)
"""Beginnings of patterns, and the rule in words."""


def _rule(details: ErrorDetails, value: Any) -> str:
    """Return the rule that a value breaks, and what to write."""
    error_type, context = details["type"], details.get("ctx", {})
    if error_type in _LIMITS:
        name, rule = _LIMITS[error_type]
        limit = context.get(name)
        words = next((words for start, words in _PATTERNS if str(limit).startswith(start)), None)
        if error_type == "string_pattern_mismatch" and words is not None:
            return words
        return rule.format(f"{limit:g}" if isinstance(limit, float) else limit)
    found = next((rule for starts, rule in _RULES if error_type.startswith(starts)), None)
    if found is None:
        return "is not valid here; docs/job_file.md describes the field"
    return f'{found}: "{value}"' if found.endswith("quotes") and isinstance(value, int | float) else found


def _describe_unknown_key(loc: tuple[int | str, ...]) -> str:
    known = sorted({field for model in _models_at(Job, loc[:-1]) for field in suggested_fields(model)})
    close = closest_match(str(loc[-1]), known)
    remedy = f"did you mean `{close}`?" if close else f"known here: {', '.join(known)}"
    return f"unknown key; {remedy}"


def _real_keys(loc: tuple[int | str, ...], raw: Any, *, is_missing: bool) -> list[str]:
    """Return the path without the names of union branches, which pydantic inserts between real keys."""
    keys = []
    node = raw
    for depth, key in enumerate(loc):
        last = depth == len(loc) - 1
        index = isinstance(node, list) and isinstance(key, int) and key < len(node)
        if index or (isinstance(node, dict) and key in node):
            node = node[key]
        elif not (is_missing and last) and key != "[key]":
            continue  # the branch of a union; a missing key is always the last one
        keys.append(str(key))
    return keys


def _models_at(annotation: Any, loc: tuple[int | str, ...]) -> list[type[BaseModel]]:
    """Return the models that `loc` can refer to: several where the branch of a union is not known."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _models_at(get_args(annotation)[0], loc)
    if origin in _UNION:
        chosen_by_tag = [branch for branch in get_args(annotation) if loc and Tag(str(loc[0])) in _metadata(branch)]
        if chosen_by_tag:
            return _models_at(chosen_by_tag[0], loc[1:])
        branches = [_strip_metadata(branch) for branch in get_args(annotation)]
        if loc and any(_tag(branch) == loc[0] for branch in branches):
            chosen = next(branch for branch in branches if _tag(branch) == loc[0])
            return _models_at(chosen, loc[1:])
        return [model for branch in branches for model in _models_at(branch, loc)]
    if origin in (dict, tuple, list) and loc:
        inner = get_args(annotation)[1 if origin is dict else 0]
        return _models_at(inner, loc[1:])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not loc:
            return [annotation]
        field = annotation.model_fields.get(str(loc[0]))
        return _models_at(field.annotation, loc[1:]) if field else []
    return []


def _metadata(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()


def _strip_metadata(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _tag(model: Any) -> str | None:
    """Return the discriminator value of a union branch."""
    for name in _TAGS:
        field = getattr(model, "model_fields", {}).get(name)
        if field is not None and get_origin(field.annotation) is Literal:
            return str(get_args(field.annotation)[0])
    return None


def _shorten(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
