from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from farandole.spec import ImageAugment, NumbersAugment, parse_job

Problems = Callable[[dict[str, Any]], list[str]]


def with_augment(raw: dict[str, Any], **groups: dict[str, Any]) -> dict[str, Any]:
    """Return the small job with augmentations of these groups."""
    return {**raw, "train": {"augment": groups}}


def test_each_group_has_its_own_augmentation(raw: dict[str, Any]) -> None:
    augment = parse_job(
        with_augment(raw, dense={"kind": "numbers", "noise": 0.1}, categorical={"kind": "ids", "dropout": 0.05})
    ).train.augment
    assert augment["dense"] == NumbersAugment(kind="numbers", noise=0.1)
    assert list(augment) == ["dense", "categorical"]


def test_augment_is_empty_by_default(raw: dict[str, Any]) -> None:
    assert parse_job(raw).train.augment == {}


@pytest.mark.parametrize(
    ("groups", "problem"),
    [
        (
            {"dens": {"kind": "numbers", "noise": 1}},
            "job: train.augment.dens: no feature belongs to the group dens; did you mean dense?",
        ),
        (
            {"pictures": {"kind": "image", "flip_vertical": 1}},
            "job: train.augment.pictures: no feature belongs to the group pictures; the groups are dense, categorical",
        ),
        (
            {"categorical": {"kind": "numbers", "noise": 1}},
            "job: train.augment.categorical.kind: numbers, but the group holds ids; write that",
        ),
        (
            {"dense": {"kind": "numbers"}},
            "job: train.augment.dense: nothing is augmented; set one of noise, dropout above 0, or remove the group",
        ),
        (
            {"dense": {"kind": "numbers", "noize": 0.1}},
            "job: train.augment.dense.noize: unknown key; did you mean `noise`?",
        ),
        (
            {"dense": {"noise": 0.1}},
            "job: train.augment.dense: write `kind:` with one of image, numbers, ids, tokens",
        ),
        (
            {"dense": {"kind": "numbers", "dropout": 1.5}},
            "job: train.augment.dense.dropout: 1.5: must be at most 1",
        ),
        (
            {"dense": {"kind": "image", "flip_vertical": 0.5, "padding": "constant"}},
            "job: train.augment.dense: padding has no effect without `crop`; remove it",
        ),
    ],
)
def test_invalid_augmentations_are_rejected(
    raw: dict[str, Any], problems: Problems, groups: dict[str, Any], problem: str
) -> None:
    assert problems(with_augment(raw, **groups)) == [problem]


def test_crop_alone_is_an_augmentation() -> None:
    assert ImageAugment(kind="image", crop=4).padding == "reflect"
