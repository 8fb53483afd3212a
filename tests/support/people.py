"""Rows about fictional people, a job on them, and all their values that must not leak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

KEY = "5f" * 32
OTHER_KEY = "a7" * 32
KEY_VARIABLE = "FARANDOLE_TEST_KEY"

CARDS = ("4111111111111111", "5500005555555559", "371449635398431")
COLUMNS = {
    "user": "bigint",
    "name": "string",
    "email": "string",
    "phone": "string",
    "age": "int",
    "born": "date",
    "city": "string",
    "card": "bigint",
    "amount": "double",
    "bought": "int",
}


def person(number: int) -> dict[str, Any]:
    """Return one row; 40 people occur three times each."""
    who = number % 40
    return {
        "user": 739_146_208 + who,
        "name": f"Quinlan-{who:03d}",
        "email": f"quinlan.{who:03d}@mail.example",
        "phone": f"+49 170 {5_550_000 + who}",
        "age": 20 + who,
        "born": f"{1960 + who}-{1 + who % 12:02d}-{2 + who % 27:02d}",
        "city": ("Ahausen", "Behausen")[who % 2],
        "card": CARDS[who % 3],
        "amount": number * 0.5,
        "bought": int(number % 4 == 0),
    }


PEOPLE = [person(number) for number in range(120)]
SECRETS = sorted({str(row[column]) for row in PEOPLE for column in ("user", "name", "email", "phone", "card", "born")})
"""Values that must not be found anywhere after the policies below are applied."""

POLICIES: dict[str, dict[str, Any]] = {
    "email": {"policy": "drop"},
    "name": {"policy": "encrypt"},
    "phone": {"policy": "mask", "keep_last": 2},
    "user": {"policy": "pseudonymise"},
    "age": {"policy": "generalise", "width": 10},
    "born": {"policy": "generalise", "to": "year"},
    "card": {"policy": "mask", "keep_last": 4},
}

FEATURES: dict[str, dict[str, Any]] = {
    "name": {"kind": "categorical"},
    "phone": {"kind": "categorical"},
    "user": {"kind": "categorical"},
    "age": {"kind": "numeric", "scale": "none"},
    "born": {"kind": "categorical"},
    "card": {"kind": "categorical"},
    "city": {"kind": "categorical"},
    "amount": {"kind": "numeric"},
}


def people_csv() -> str:
    """Return the rows as CSV."""
    return "\n".join([",".join(COLUMNS), *(",".join(str(value) for value in row.values()) for row in PEOPLE)]) + "\n"


def people_data(**changes: Any) -> dict[str, Any]:
    """Return the data part of a job that uses every policy."""
    return {
        "sources": {"people": {"path": "people.csv", "columns": COLUMNS}},
        "features": FEATURES,
        "label": {"column": "bought", "kind": "binary"},
        "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
        "privacy": {"columns": POLICIES, "key": {"environment": KEY_VARIABLE}},
        **changes,
    }


def texts_below(directory: Path) -> dict[str, bytes]:
    """Return the content of all files below a directory, by name."""
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
