from __future__ import annotations

from typing import Any

import pytest

from farandole.errors import UserError
from farandole.serving.registry.promotion import GateResult, Promotion, plan_promotion, promote


@pytest.mark.parametrize(
    ("version", "options", "message"),
    [
        ("1", {"require": ["best"]}, "--require best: is not a gate; the gates are better, signature, explanation"),
        ("1", {"rollback": True}, "--rollback: returns to the former version by itself; leave out the version 1"),
        (None, {}, "VERSION is missing; name the version to promote, or add --rollback"),
        ("1", {"require": ["signature"]}, "needs the key that signed the bundle; add --public-key KEY.pem"),
        ("1", {"public_key": "k.pem"}, "--public-key: is used by --require signature only"),
        ("1", {"metric": "rmse"}, "--metric: is used by --require better only"),
    ],
)
def test_wrong_arguments_are_refused_before_mlflow_is_asked(
    version: str | None, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        plan_promotion("flights", version, **options)


def test_failed_gates_keep_the_alias() -> None:
    gates = (GateResult("better", True, "fine"), GateResult("signature", False, "not signed; sign it"))
    plan = Promotion("flights", "champion", "1", "2", gates)
    assert plan.to_dict()["passed"] is False
    with pytest.raises(UserError, match=r"^flights@champion stays at version 1: signature: not signed; sign it$"):
        promote(plan)


def test_alias_that_stands_for_the_version_need_not_move() -> None:
    assert not Promotion("flights", "champion", "2", "2").is_needed
    assert Promotion("flights", "champion", None, "2").is_needed
