"""Augmentation kind by kind; test_image_augment.py covers the changes of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from farandole.errors import SpecError
from farandole.loading import Augmentation, TrainingLoader
from farandole.shards import Dataset, Group, Manifest, Schema, write_manifest
from farandole.spec import Augment, IdsAugment, NumbersAugment

Make = Callable[..., Augmentation]

GROUPS = (
    Group(name="dense", kind="numbers", features=("width", "width_missing", "hour_sin", "height")),
    Group(name="categorical", kind="ids", features=("colour", "shape"), cardinalities=(5, 9)),
    Group(name="picture", kind="image", features=("picture",), shape=(8, 6, 3)),
    Group(name="grey", kind="image", features=("grey",), shape=(5, 5, 1)),
    Group(name="words", kind="tokens", features=("title",), cardinalities=(60,), shape=(12,)),
    Group(name="masks", kind="image", features=("masks",), shape=(5, 5, 2)),
)
TRANSFORMS = [
    {"kind": "numeric", "name": "width"},
    {"kind": "time", "name": "hour"},
    {"kind": "numeric", "name": "height"},
    {"kind": "text", "name": "title", "spec": {"special_tokens": ["<a>", "<b>"]}},
]
EVERYTHING: dict[str, dict[str, Any]] = {
    "dense": {"kind": "numbers", "noise": 0.5, "dropout": 0.2},
    "categorical": {"kind": "ids", "dropout": 0.3},
    "picture": {"kind": "image", "flip_horizontal": 0.5, "crop": 2, "brightness": 0.3, "saturation": 0.3},
    "grey": {"kind": "image", "flip_vertical": 0.5, "crop": 1, "padding": "constant", "contrast": 0.5},
    "words": {"kind": "tokens", "dropout": 0.3},
}
ROWS = 4096


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make an augmentation of a dataset that has groups of all kinds."""

    def make(augment: dict[str, dict[str, Any]], seed: int = 0, digest: str = "d", fitted: bool = True) -> Augmentation:
        manifest = Manifest(
            digest=digest,
            columns=Schema(groups=GROUPS),
            splits={},
            preprocessing={"transforms": TRANSFORMS} if fitted else {},
            statistics={},
            split_rule={},
            sources=(),
            request="",
            code_version={},
        )
        write_manifest(tmp_path, manifest)
        specs = TypeAdapter(dict[str, Augment]).validate_python(augment)
        return Augmentation(specs, Dataset(tmp_path), seed)

    return make


def rows(count: int = ROWS) -> dict[str, torch.Tensor]:
    """Return rows of all groups."""
    random = np.random.default_rng(5)
    made = {
        "dense": random.normal(size=(count, 4)).astype(np.float32),
        "categorical": random.integers(1, 5, (count, 2)).astype(np.int32),
        "picture": random.integers(0, 256, (count, 8, 6, 3)).astype(np.uint8),
        "grey": random.integers(0, 256, (count, 5, 5, 1)).astype(np.uint8),
        "words": random.integers(0, 60, (count, 12)).astype(np.int32),
        "masks": random.integers(0, 256, (count, 5, 5, 2)).astype(np.uint8),
    }
    return {name: torch.from_numpy(values) for name, values in made.items()}


def test_a_row_is_changed_alike_in_any_batch_and_any_order(make: Make) -> None:
    augmentation, features, ids = make(EVERYTHING), rows(40), np.arange(100, 140)
    whole = augmentation(features, ids, 3)
    order = np.random.default_rng(1).permutation(40)
    for chosen in (order, order[:7], order[33:], order[:1]):
        part = augmentation({name: values[chosen] for name, values in features.items()}, ids[chosen], 3)
        for name in features:
            assert torch.equal(part[name], whole[name][chosen]), name


def test_changes_differ_between_epochs_seeds_rows_and_datasets(make: Make) -> None:
    features, ids = rows(40), np.arange(40)
    first = make(EVERYTHING)(features, ids, 0)
    others = [
        make(EVERYTHING)(features, ids, 1),
        make(EVERYTHING, seed=1)(features, ids, 0),
        make(EVERYTHING, digest="e")(features, ids, 0),
        make(EVERYTHING)(features, ids + 40, 0),
    ]
    for other in others:
        for name in EVERYTHING:
            assert not torch.equal(first[name], other[name]), name


def test_shapes_and_dtypes_are_kept_and_the_input_is_not_modified(make: Make) -> None:
    features = rows(64)
    before = {name: values.clone() for name, values in features.items()}
    changed = make(EVERYTHING)(features, np.arange(64), 0)
    assert list(changed) == list(features)
    for name, values in features.items():
        assert torch.equal(values, before[name])
        assert changed[name].shape == values.shape
        assert changed[name].dtype == values.dtype
    for name in EVERYTHING:
        assert not torch.equal(changed[name], features[name])
        assert changed[name].data_ptr() != features[name].data_ptr()
    assert changed["masks"] is features["masks"]


def test_a_batch_without_rows_stays_empty(make: Make) -> None:
    features = rows(0)
    changed = make(EVERYTHING)(features, np.empty(0, dtype=np.int64), 0)
    assert {name: tuple(values.shape) for name, values in changed.items()} == {
        name: tuple(values.shape) for name, values in features.items()
    }


# Numbers ------------------------------------------------------------------------------------------------------


def test_noise_has_its_deviation_and_skips_indicators_and_parts_of_times(make: Make) -> None:
    features = rows()
    changed = make({"dense": {"kind": "numbers", "noise": 0.5}})(features, np.arange(ROWS), 0)["dense"]
    noise = (changed - features["dense"]).numpy()
    assert (noise[:, [1, 2]] == 0).all()
    assert noise[:, [0, 3]].std(axis=0) == pytest.approx([0.5, 0.5], abs=0.02)
    assert noise[:, [0, 3]].mean(axis=0) == pytest.approx([0, 0], abs=0.03)
    assert abs(np.corrcoef(noise[:, 0], noise[:, 3])[0, 1]) < 0.05


def test_dropout_zeroes_its_share_of_the_selected_columns(make: Make) -> None:
    features = rows()
    spec = {"dense": {"kind": "numbers", "dropout": 0.2, "features": ("hour_sin", "height")}}
    changed = make(spec)(features, np.arange(ROWS), 0)["dense"]
    zero = (changed == 0).numpy()
    assert zero.mean(axis=0) == pytest.approx([0, 0, 0.2, 0.2], abs=0.02)
    assert torch.equal(changed[torch.from_numpy(~zero)], features["dense"][torch.from_numpy(~zero)])


def test_the_noise_of_a_column_does_not_depend_on_the_other_selected_columns(make: Make) -> None:
    features, ids = rows(100), np.arange(100)
    both = make({"dense": {"kind": "numbers", "noise": 1}})(features, ids, 0)["dense"]
    one = make({"dense": {"kind": "numbers", "noise": 1, "features": ("height",)}})(features, ids, 0)["dense"]
    assert torch.equal(one[:, 3], both[:, 3])
    assert torch.equal(one[:, 0], features["dense"][:, 0])


def test_all_numbers_are_changed_if_the_manifest_lists_no_transforms(make: Make) -> None:
    features = rows(100)
    augmentation = make({"dense": {"kind": "numbers", "noise": 1}}, fitted=False)
    assert (augmentation(features, np.arange(100), 0)["dense"] != features["dense"]).any(dim=0).all()


# Ids ----------------------------------------------------------------------------------------------------------


def test_dropped_ids_become_unknown(make: Make) -> None:
    features = rows()
    changed = make({"categorical": {"kind": "ids", "dropout": 0.3}})(features, np.arange(ROWS), 0)["categorical"]
    dropped = changed == 0
    assert dropped.float().mean(dim=0).tolist() == pytest.approx([0.3, 0.3], abs=0.03)
    assert torch.equal(changed[~dropped], features["categorical"][~dropped])


def test_only_ids_of_selected_columns_are_dropped(make: Make) -> None:
    spec = {"categorical": {"kind": "ids", "dropout": 1, "features": ("shape",)}}
    features = rows(50)
    changed = make(spec)(features, np.arange(50), 0)["categorical"]
    assert torch.equal(changed[:, 0], features["categorical"][:, 0])
    assert (changed[:, 1] == 0).all()


# Tokens -------------------------------------------------------------------------------------------------------


def test_dropped_tokens_become_unknown_and_special_tokens_are_kept(make: Make) -> None:
    features = rows()
    given = features["words"]
    changed = make({"words": {"kind": "tokens", "dropout": 0.3}})(features, np.arange(ROWS), 0)["words"]
    special = given < 5  # padding, unknown, end, and the two that the job file names
    assert torch.equal(changed[special], given[special])
    dropped = changed[~special] == 1
    assert dropped.float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert torch.equal(changed[~special][~dropped], given[~special][~dropped])


# Through a loader -----------------------------------------------------------------------------------------------


def epoch(write_dataset: Callable[..., Dataset], size: int, **options: Any) -> list[dict[str, torch.Tensor]]:
    """Return the augmented global batches of epoch 2, assembled from all ranks."""
    dataset = write_dataset(train=[120, 80], block_rows=16)
    specs: dict[str, Augment] = {
        "dense": NumbersAugment(kind="numbers", noise=1.0, dropout=0.1),
        "ids": IdsAugment(kind="ids", dropout=0.2),
    }
    ranks = []
    for rank in range(size):
        transform = Augmentation(specs, dataset, seed=4)
        loader = TrainingLoader(
            dataset, global_batch_size=23, rank=rank, size=size, seed=4, transform=transform, **options
        )
        # A later batch may reuse the memory of a batch.
        ranks.append([{name: part.clone() for name, part in batch.features.items()} for batch in loader.epoch(2)])
    return [
        {name: torch.cat([part[name] for part in step]) for name in ("dense", "ids")}
        for step in zip(*ranks, strict=True)
    ]


def test_the_global_batches_are_the_same_for_any_number_of_ranks(write_dataset: Callable[..., Dataset]) -> None:
    alone = epoch(write_dataset, 1)
    assert sum(len(batch["ids"]) for batch in alone) == 200
    dense = torch.cat([batch["dense"] for batch in alone])
    assert (dense != dense.round()).any()  # without noise they are whole numbers
    for size in (2, 3):
        for one, other in zip(alone, epoch(write_dataset, size), strict=True):
            assert torch.equal(one["dense"], other["dense"])
            assert torch.equal(one["ids"], other["ids"])


# Invalid augmentations ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("augment", "problem"),
    [
        (
            {"pictures": {"kind": "image", "crop": 1}},
            r"train\.augment\.pictures: the dataset has no group pictures; did you mean picture\?",
        ),
        (
            {"dense": {"kind": "ids", "dropout": 0.1}},
            r"train\.augment\.dense: kind is ids, but the group holds numbers; set kind: numbers",
        ),
        (
            {"dense": {"kind": "numbers", "noise": 1, "features": ("width", "heigth")}},
            r"train\.augment\.dense\.features: the group has no column heigth; did you mean height\?",
        ),
        (
            {"picture": {"kind": "image", "crop": 6}},
            r"train\.augment\.picture\.crop: 6 pixels, but the images have 8 x 6; use less than 6",
        ),
        (
            {"grey": {"kind": "image", "saturation": 0.2}},
            r"train\.augment\.grey\.saturation: it has no effect on images with one channel; remove it",
        ),
        (
            {"masks": {"kind": "image", "contrast": 0.2}},
            r"train\.augment\.masks\.contrast: the images have 2 channels, but colour changes need 1 or 3; remove it",
        ),
    ],
)
def test_an_augmentation_that_does_not_match_the_dataset_is_rejected(
    make: Make, augment: dict[str, dict[str, Any]], problem: str
) -> None:
    with pytest.raises(SpecError, match=problem):
        make(augment)
