from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farandole.errors import UserError
from farandole.serving.compression import Compression, FormMeasure, Way, compress_model, compress_ways


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"int8": "half"}, "--int8 half: is not a method; the methods are static, dynamic"),
        ({"int8": "static"}, "names no destination; add -o DIR, --register, or both"),
        ({"int8": "static", "output": "/"}, "/: exists already; name a new directory"),
        ({"int8": "static", "output": "/new", "max_drop": 1.5}, "--max-drop 1.5: is a share of the metric's value"),
        ({"int8": "static", "register": True}, "--register: bundle is not a registered model"),
        ({}, "name a way: --int8 METHOD, --prune SHARE or --student MODEL"),
        ({"int8": "static", "prune": 0.5}, "name a way: --int8 METHOD, --prune SHARE or --student MODEL"),
        (
            {"prune": 1.0, "measure_only": True},
            "--prune 1: is the share of weights that become 0; use a number",
        ),
        ({"prune": 0.5, "epochs": -1, "measure_only": True}, "--epochs -1: is a number of epochs; use 0 to train"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_loaded(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        compress_model("bundle", **options)


def test_several_ways_have_no_single_directory() -> None:
    ways = [Way(int8="static"), Way(prune=0.5)]
    with pytest.raises(UserError, match="-o /new: is one directory, and 2 ways are named"):
        compress_ways("bundle", ways, output="/new")
    with pytest.raises(UserError, match="name a way"):
        compress_ways("bundle", [], measure_only=True)
    assert [way.method for way in (*ways, Way(student="models:/b/1"))] == ["int8 static", "pruned 0.5", "distilled"]


def test_drop_up_to_the_limit_is_accepted() -> None:
    before, after = FormMeasure("eager", 100, 1.0, 10.0, 0.8), FormMeasure("int8", 30, 0.5, 20.0, 0.79)
    made = Compression("m", "int8 static", "roc_auc", before, after, drop=0.0125, max_drop=0.0125, output=Path("/new"))
    assert made.accepted
    document = made.to_dict()
    assert (document["accepted"], document["output"], document["after"]["bytes"]) == (True, "/new", 30)
    assert not Compression("m", "int8 static", "roc_auc", before, after, drop=0.02, max_drop=0.01).accepted
