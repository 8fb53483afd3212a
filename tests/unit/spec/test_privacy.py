from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from farandole.spec import KeyReference, Privacy, parse_job

Problems = Callable[[dict[str, Any]], list[str]]
KEY = {"environment": "THE_KEY"}


@pytest.mark.parametrize(
    ("privacy", "text"),
    [
        ({"columns": {"tail": {"policy": "drop"}}}, "columns.tail: is dropped, yet features.tail needs it"),
        ({"columns": {"late": {"policy": "drop"}}}, "columns.late: is dropped, yet label.column needs it"),
        ({"columns": {"distance": {"policy": "mask"}}}, "features.distance: is numeric, yet privacy.columns.distance"),
        (
            {"columns": {"start": {"policy": "encrypt"}}, "key": KEY},
            "features.start: is time, yet privacy.columns.start",
        ),
        ({"columns": {"tail": {"policy": "pseudonymise"}}}, "columns.tail: pseudonymise needs a key"),
        ({"columns": {"tail": {"policy": "mask"}}, "key": KEY}, "key has no effect: no column is pseudonymised"),
        ({"columns": {"tail": {"policy": "hide"}}}, "'hide' is not known; write `policy:` with one of drop, mask"),
        (
            {"columns": {"tail": {}}},
            "write `policy:` with one of drop, mask, redact, pseudonymise, generalise, encrypt",
        ),
        ({"columns": {"tail": {"policy": "mask", "keep": 3}}}, "tail.keep: unknown key; did you mean `keep_last`?"),
        ({"columns": {"tail": {"policy": "generalise"}}}, "set either `width` (numbers) or `to`"),
        ({"columns": {"tail": {"policy": "generalise", "width": 1, "to": "day"}}}, "set either `width` (numbers) or"),
        ({"k_anonymity": {"columns": ["zip"], "k": 5}}, "k_anonymity.columns: zip is not part of the dataset"),
        ({"k_anonymity": {"columns": ["tail"], "suppress": True}}, "suppress has no effect without `k`"),
        ({"k_anonymity": {"columns": ["tail", "tail"]}}, "a column is named twice in ['tail', 'tail']"),
        ({"columns": {"tail": {"policy": "encrypt"}}, "key": {}}, "set either `environment` or `file`"),
    ],
)
def test_invalid_privacy_settings_are_rejected(
    raw: dict[str, Any], problems: Problems, privacy: dict[str, Any], text: str
) -> None:
    raw["data"]["privacy"] = privacy
    found = problems(raw)
    assert any(text in line for line in found), found


@pytest.mark.parametrize(
    "key",
    ["ab" * 32, "9f" * 32, "0x" + "9f" * 32, int("9f" * 32, 16), base64.b64encode(bytes(range(200, 232))).decode()],
    ids=["letter first", "digit first", "prefix", "number", "base64"],
)
@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("environment", "this looks like a key; write the name of the environment variable that holds it"),
        ("file", "this looks like a key; write the path of the file that holds it"),
        (None, "is not a reference to a key; write `{environment: NAME}` or `{file: PATH}`"),
    ],
)
def test_key_in_place_of_its_name_is_not_repeated(
    raw: dict[str, Any], problems: Problems, key: str | int, field: str | None, message: str
) -> None:
    reference = key if field is None else {field: key}
    raw["data"]["privacy"] = {"columns": {"tail": {"policy": "encrypt"}}, "key": reference}
    (line,) = problems(raw)
    assert message in line
    assert str(key)[:16] not in line


def test_key_is_named_by_its_id_its_variable_or_its_file() -> None:
    assert KeyReference(environment="THE_KEY").name == "THE_KEY"
    assert KeyReference(environment="THE_KEY", id="spring-2026").name == "spring-2026"
    assert KeyReference(file="/run/secrets/shards").name == "shards"
    assert KeyReference(file="/run/secrets/shards").description == "the file /run/secrets/shards"


def test_protected_columns_exclude_allowed_ones(raw: dict[str, Any]) -> None:
    columns = {
        "carrier": {"policy": "allow"},
        "tail": {"policy": "mask"},
        "distance": {"policy": "generalise", "width": 5},
    }
    raw["data"]["privacy"] = {"columns": columns}
    privacy = parse_job(raw).data.privacy
    assert set(privacy.protected) == {"tail", "distance"}
    assert privacy.text_columns == {"tail": "mask"}
    assert Privacy().detect
