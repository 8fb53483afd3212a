"""A program is loaded only if loading it cannot run code."""

from __future__ import annotations

import json
import pickletools
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from farandole.bundle.program import check_program, load_program, save_program
from farandole.errors import BundleError
from tests.support.bundles import ROWS, fitted, small_network


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    preprocessing = fitted()
    path = tmp_path_factory.mktemp("program") / "network.pt2"
    save_program(small_network(preprocessing), preprocessing.features(preprocessing.raw_batch(ROWS)), path)
    return path


def _rewrite(saved: Path, path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(saved) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _name(members: dict[str, bytes], end: str) -> str:
    return next(name for name in members if name.endswith(end))


def _change_graph(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    def apply(members: dict[str, bytes]) -> None:
        name = _name(members, "models/model.json")
        document = json.loads(members[name])
        change(document)
        members[name] = json.dumps(document).encode()

    return apply


def _set_function(name: str) -> Callable[[dict[str, bytes]], None]:
    return _change_graph(lambda document: document["graph_module"]["graph"]["nodes"][0].update(target=name))


def _set_expression(text: str) -> Callable[[dict[str, bytes]], None]:
    def change(value: Any) -> None:
        for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            change(child)
        if isinstance(value, dict) and "expr_str" in value:
            value["expr_str"] = text

    return _change_graph(change)


def _add(name: str, content: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({_name(members, "archive_format").replace("archive_format", name): content})


def _use_pickle(members: dict[str, bytes]) -> None:
    name = _name(members, "model_weights_config.json")
    members[name] = members[name].replace(b'"use_pickle": false', b'"use_pickle": true', 1)


DANGERS: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "example inputs": (lambda members: members.update({_name(members, "model.pt"): b"\x80\x02}."}), "pickled example"),
    "pickled weight": (_use_pickle, "a pickled weight"),
    "old weights": (_add("data/weights/model.pt", b"\x80\x02}."), "the file network/data/weights/model.pt"),
    "constant object": (_add("data/constants/opaque_obj_0", b"\x80\x02}."), "opaque_obj_0"),
    "compiled code": (_add("data/aotinductor/model/model.so", b"\x7fELF"), "model.so"),
    "function of torch": (_set_function("torch.os.system"), "the function 'torch.os.system'"),
    "function of operator": (_set_function("_operator.methodcaller"), "_operator.methodcaller"),
    "attribute of operators": (_set_function("torch.ops.aten.__class__.mro"), "torch.ops.aten.__class__.mro"),
    "file": (_set_function("torch.ops.aten.from_file.default"), "torch.ops.aten.from_file.default"),
    "expression": (_set_expression("__import__('os').system('true')"), "the expression"),
    "attribute": (_set_expression("Symbol.__class__"), "the expression"),
    "text": (_set_expression("Symbol('s1; import os')"), "the expression"),
}


@pytest.mark.parametrize("danger", list(DANGERS))
def test_a_program_that_could_run_code_is_not_loaded(saved: Path, tmp_path: Path, danger: str) -> None:
    change, expected = DANGERS[danger]
    path = _rewrite(saved, tmp_path / "network.pt2", change)
    with pytest.raises(BundleError) as caught:
        load_program(path)
    assert expected in str(caught.value)


def test_a_rewritten_program_without_a_change_is_loaded(saved: Path, tmp_path: Path) -> None:
    preprocessing = fitted()
    features = preprocessing.features(preprocessing.raw_batch(ROWS))
    expected = small_network(preprocessing)(**{name: torch.from_numpy(values) for name, values in features.items()})
    for path in (saved, _rewrite(saved, tmp_path / "network.pt2", lambda members: None)):
        np.testing.assert_allclose(load_program(path)(features), expected.detach().numpy(), atol=1e-6)


def test_no_member_of_a_program_is_a_pickle(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert not content.startswith((b"\x80\x02", b"\x80\x04", b"PK")), name
            if name.endswith((".pt", ".pkl")):
                with pytest.raises(ValueError, match=r"pickle exhausted|opcode"):
                    list(pickletools.genops(content))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip archive"])
def test_a_damaged_program_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "network.pt2"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"is not an archive of torch\.export"):
        check_program(path)


def test_a_long_expression_is_judged_at_once(saved: Path, tmp_path: Path) -> None:
    path = _rewrite(saved, tmp_path / "network.pt2", _set_expression("1" * 100_000 + "'"))
    with pytest.raises(BundleError, match="the expression"):
        check_program(path)
    shutil.copyfile(saved, path)
    check_program(path)
