from __future__ import annotations

import json
import math

import pytest

from farandole.process.json_text import json_text


def test_numbers_that_json_lacks_become_null() -> None:
    text = json_text({"loss": math.nan, "ends": [math.inf, (1.5, -math.inf)], "name": "a"}, indent=2)
    assert "NaN" not in text
    assert json.loads(text) == {"loss": None, "ends": [None, [1.5, None]], "name": "a"}


def test_other_documents_are_those_of_the_standard_library() -> None:
    document = {"a": [1, 2.5, None, True], "é": {"b": "c"}}
    assert json_text(document) == json.dumps(document)
    assert json_text(document, indent=2) == json.dumps(document, indent=2)
    with pytest.raises(TypeError):
        json_text(object())
