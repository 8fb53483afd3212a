"""Augmentation: random changes of training rows that differ in every epoch.

The changes of a row depend only on the dataset, the seed, the epoch and the row, not on its batch or rank. Global
batches are therefore the same for every number of workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch

from farandole.errors import SpecError, closest_match
from farandole.loading.image_augment import augment_images
from farandole.loading.row_random import draw, to_bernoulli, to_normal
from farandole.preprocess.categorical import UNKNOWN
from farandole.preprocess.tokenizer import RESERVED
from farandole.preprocess.tokenizer import UNKNOWN as UNKNOWN_TOKEN
from farandole.shards import Dataset, Group, Manifest
from farandole.spec import Augment, IdsAugment, ImageAugment, NumbersAugment, TokensAugment

ALGORITHM_VERSION = 1
"""Part of the random key; a changed algorithm gets a new version, and with it different random numbers."""
_NOISE_STREAM, _DROPOUT_STREAM = 0, 1

_Change = Callable[[np.ndarray, int, np.ndarray], np.ndarray]
"""Function of values `[rows, ...]`, a key and row ids that returns changed values in new memory."""


class Augmentation:
    """Random changes to the features of training rows; a loader applies them to each batch.

    Args:
        augment: Changes per feature group.
        dataset: The dataset of the rows.
        seed: Seed of the random changes.

    Raises:
        SpecError: A group does not exist, has another kind, or has a shape that does not permit the changes.
    """

    def __init__(self, augment: Mapping[str, Augment], dataset: Dataset, seed: int = 0) -> None:
        manifest = dataset.manifest
        self._identity = f"augment/{ALGORITHM_VERSION}/{manifest.digest}/{seed}"
        self._changes = {
            name: _make_change(f"train.augment.{name}", name, spec, manifest) for name, spec in augment.items()
        }

    def __call__(
        self, features: Mapping[str, torch.Tensor], row_ids: np.ndarray, epoch: int
    ) -> dict[str, torch.Tensor]:
        """Return changed features; the given tensors are not modified.

        Args:
            features: One CPU tensor `[rows, *shape]` per group.
            row_ids: int64 `[rows]`, row numbers within the split.
            epoch: Number of the epoch.

        Returns:
            Tensors of the same shapes and dtypes; groups without augmentation are passed through.
        """
        changed = dict(features)
        for name, change in self._changes.items():
            tensor = features[name]
            if len(row_ids):
                changed[name] = _tensor_like(tensor, change(tensor.numpy(), self._key(name, epoch), row_ids))
        return changed

    def _key(self, group: str, epoch: int) -> int:
        digest = hashlib.sha256(f"{self._identity}/{epoch}/{group}".encode()).digest()
        return int.from_bytes(digest[:8], "little")


def _tensor_like(tensor: torch.Tensor, values: np.ndarray) -> torch.Tensor:
    """Wrap `values` in a tensor, pinned if `tensor` is, so that copies to a GPU are asynchronous."""
    wrapped = torch.from_numpy(values)
    return wrapped.pin_memory() if tensor.is_pinned() else wrapped


def _make_change(field_path: str, name: str, spec: Augment, manifest: Manifest) -> _Change:
    groups = {group.name: group for group in manifest.columns.groups}
    if name not in groups:
        closest = closest_match(name, list(groups))
        hint = f"did you mean {closest}?" if closest else f"it has {', '.join(groups)}"
        raise SpecError(f"{field_path}: the dataset has no group {name}; {hint}")
    group = groups[name]
    if group.kind != spec.kind:
        raise SpecError(f"{field_path}: kind is {spec.kind}, but the group holds {group.kind}; set kind: {group.kind}")
    if isinstance(spec, ImageAugment):
        return _image_change(field_path, spec, group)
    if isinstance(spec, NumbersAugment):
        names = spec.features or _numeric_features(manifest, group)
        return _numbers_change(spec, _select_columns(field_path, names, group))
    if isinstance(spec, IdsAugment):
        return _ids_change(spec, _select_columns(field_path, spec.features or group.features, group))
    return _tokens_change(spec, _num_special_tokens(manifest, group))


def _image_change(field_path: str, spec: ImageAugment, group: Group) -> _Change:
    height, width, channels = group.shape
    if spec.crop >= min(height, width):
        raise SpecError(
            f"{field_path}.crop: {spec.crop} pixels, but the images have {height} x {width}; use less than"
            f" {min(height, width)}"
        )
    tints = [name for name in ("brightness", "contrast", "saturation") if getattr(spec, name)]
    if tints and channels not in (1, 3):
        raise SpecError(
            f"{field_path}.{tints[0]}: the images have {channels} channels, but colour changes need 1 or 3; remove it"
        )
    if spec.saturation and channels == 1:
        raise SpecError(f"{field_path}.saturation: it has no effect on images with one channel; remove it")
    return lambda images, key, row_ids: augment_images(images, spec, key, row_ids)


def _numbers_change(spec: NumbersAugment, selected: np.ndarray) -> _Change:
    def change(values: np.ndarray, key: int, row_ids: np.ndarray) -> np.ndarray:
        changed, features = values.copy(), values.shape[1]
        if spec.noise:
            noise = to_normal(draw(key, row_ids, features, _NOISE_STREAM)) * np.float32(spec.noise)
            np.add(changed, noise, out=changed, where=selected)
        if spec.dropout:
            dropped = to_bernoulli(draw(key, row_ids, features, _DROPOUT_STREAM), spec.dropout)
            changed[dropped & selected] = 0
        return changed

    return change


def _ids_change(spec: IdsAugment, selected: np.ndarray) -> _Change:
    def change(ids: np.ndarray, key: int, row_ids: np.ndarray) -> np.ndarray:
        dropped = to_bernoulli(draw(key, row_ids, ids.shape[1], _DROPOUT_STREAM), spec.dropout) & selected
        return np.where(dropped, ids.dtype.type(UNKNOWN), ids)

    return change


def _tokens_change(spec: TokensAugment, num_special: int) -> _Change:
    def change(ids: np.ndarray, key: int, row_ids: np.ndarray) -> np.ndarray:
        dropped = to_bernoulli(draw(key, row_ids, ids.shape[1], _DROPOUT_STREAM), spec.dropout)
        return np.where(dropped & (ids >= num_special), ids.dtype.type(UNKNOWN_TOKEN), ids)

    return change


def _num_special_tokens(manifest: Manifest, group: Group) -> int:
    """Count the lowest ids, which stand for padding, the end of a text and other special tokens."""
    transforms = manifest.preprocessing.get("transforms", ())
    specs = [entry["spec"] for entry in transforms if entry["kind"] == "text" and entry["name"] in group.features]
    return len(RESERVED) + sum(len(spec["special_tokens"]) for spec in specs)


def _select_columns(field_path: str, names: Iterable[str], group: Group) -> np.ndarray:
    """Mark the columns of a group that are named: bool `[features]`."""
    for name in names:
        if name not in group.features:
            closest = closest_match(name, list(group.features))
            hint = f"did you mean {closest}?" if closest else f"it has {', '.join(group.features)}"
            raise SpecError(f"{field_path}.features: the group has no column {name}; {hint}")
    selected = set(names)
    return np.array([feature in selected for feature in group.features])


def _numeric_features(manifest: Manifest, group: Group) -> tuple[str, ...]:
    """Return the columns of a group that hold measured numbers; all columns if the manifest lists no transforms."""
    transforms = manifest.preprocessing.get("transforms")
    if not transforms:
        return group.features
    numeric = {entry["name"] for entry in transforms if entry["kind"] == "numeric"}
    return tuple(feature for feature in group.features if feature in numeric)
