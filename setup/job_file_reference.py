"""Write docs/job_file.md, the reference of all fields, from the job file's JSON Schema.

Run by `make reference`. A test compares the file with what this module renders.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from farandole.spec import Job

TARGET = Path(__file__).resolve().parent.parent / "docs" / "job_file.md"
INTRODUCTION = """\
# The job file

Generated from the schema by `make reference`; do not edit by hand.

A job file is YAML. Unknown keys are errors that name the nearest key, and the same file runs on every backend.
`${NAME}` and `${NAME:-default}` read environment variables, `--set field.path=value` overrides a field, and
`farandole schema` prints the JSON Schema, with which an editor completes and explains the fields:

```yaml
# yaml-language-server: $schema=../job.schema.json
name: taxi

data:
  sources:
    trips: {path: trips/*.csv, null_values: [NA], columns: {id: long, fare: double, zone: string, paid: string}}
  query: SELECT fare, zone, paid = 'card' AS by_card FROM trips
  features:
    fare: {kind: numeric, log: true}
    zone: {kind: categorical, min_count: 10}
  label: {column: by_card, kind: binary}

model:
  builder: farandole.models.mlp:build # or your_module:function, beside the job file

train:
  epochs: 5
  global_batch_size: 1024
  augment: {dense: {kind: numbers, noise: 0.05}}
resources: {workers: 2}
```

[data.md](data.md) and [training.md](training.md) explain what the fields do together.
"""

Schema = dict[str, Any]


def render(schema: Schema) -> str:
    """Render the reference: a section for each object, in the order in which fields refer to them."""
    definitions: dict[str, Schema] = schema.get("$defs", {})
    sections = [_section("The job", schema, level=2)]
    waiting, seen = _references(schema), set()
    while waiting:
        name = waiting.pop(0)
        if name in seen or "properties" not in definitions[name]:
            continue
        seen.add(name)
        sections.append(_section(name, definitions[name], level=2))
        waiting = [*_references(definitions[name]), *waiting]
    return "\n".join([INTRODUCTION, *sections])


def _section(name: str, schema: Schema, level: int) -> str:
    lines = [f"{'#' * level} {name}", ""]
    description = " ".join(schema.get("description", "").split())
    if description:
        lines += [description, ""]
    required = set(schema.get("required", ()))
    lines += ["| field | value | default | meaning |", "|---|---|---|---|"]
    for field, rule in schema["properties"].items():
        default = "required" if field in required else _default(rule)
        meaning = " ".join(rule.get("description", "").split())
        lines.append("| " + " | ".join(_cell(text) for text in (f"`{field}`", _kind(rule), default, meaning)) + " |")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(rule: Schema) -> str:
    if "default" not in rule:
        return ""
    text = json.dumps(rule["default"])
    return f"`{text}`" if len(text) <= 40 and rule["default"] is not None else ""


def _kind(rule: Schema) -> str:
    """Describe the values that a field accepts, in a few words."""
    if "$ref" in rule:
        name = rule["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in rule:
        return f"`{rule['const']}`"
    if "enum" in rule:
        return ", ".join(f"`{value}`" for value in rule["enum"])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in rule:
            kinds = [_kind(option) for option in rule[key] if option.get("type") != "null"]
            return " or ".join(dict.fromkeys(kind for kind in kinds if kind))
    kind = rule.get("type", "any")
    if kind == "array":
        if "prefixItems" in rule:
            return f"list of {len(rule['prefixItems'])}: {_kind(rule['prefixItems'][0])}"
        return f"list of {_kind(rule.get('items', {}))}"
    if kind == "object":
        values = [*rule.get("patternProperties", {}).values()] or [rule.get("additionalProperties", {})]
        return f"map to {_kind(values[0])}" if isinstance(values[0], dict) and values[0] else "map"
    if not isinstance(kind, str):
        return " or ".join(kind)
    return {"string": "text", "boolean": "true or false", "number": "number", "integer": "integer"}.get(kind, kind) + (
        _bounds(rule)
    )


def _bounds(rule: Schema) -> str:
    low, above = rule.get("minimum"), rule.get("exclusiveMinimum")
    high, below = rule.get("maximum"), rule.get("exclusiveMaximum")
    parts = [
        f"{sign} {bound:,}" if isinstance(bound, int) else f"{sign} {bound:g}"
        for sign, bound in ((">=", low), (">", above), ("<=", high), ("<", below))
        if bound is not None
    ]
    return f", {', '.join(parts)}" if parts else ""


def _references(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        found = [schema["$ref"].rpartition("/")[2]] if isinstance(schema.get("$ref"), str) else []
        children = {key: value for key, value in schema.items() if key != "$defs"}
        return found + [name for value in children.values() for name in _references(value)]
    if isinstance(schema, list):
        return [name for value in schema for name in _references(value)]
    return []


def main() -> None:
    """Write the reference."""
    TARGET.write_text(render(Job.model_json_schema()), encoding="utf-8")


if __name__ == "__main__":
    main()
