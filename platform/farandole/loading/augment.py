"""Augmentation: training rows that are changed at random, a little differently in every epoch.

What becomes of a row follows from the dataset, the seed, the epoch and the row, and from nothing else: not from the
batch it is in, nor from the rank that reads it. So the global batches stay the same for every number of workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch

from farandole.errors import SpecError, closest_match
from farandole.loading.image_augment import augment_images
from farandole.loading.row_random import draws, happens, normal
from farandole.preprocess.categorical import UNKNOWN
from farandole.preprocess.tokenizer import RESERVED
from farandole.preprocess.tokenizer import UNKNOWN as UNKNOWN_TOKEN
from farandole.shards import Dataset, Group, Manifest
from farandole.spec import Augment, IdsAugment, ImageAugment, NumbersAugment, TokensAugment

ALGORITHM_VERSION = 1
"""Part of the key: a changed algorithm is a new version, and gives openly other numbers."""
_NOISE, _DROPOUT = 0, 1
"""Streams of draws."""

_Change = Callable[[np.ndarray, int, np.ndarray], np.ndarray]
"""Values `[rows, ...]`, a key and row ids to changed values in new memory."""


class Augmentation:
    """Changes the features of training rows; a loader calls it on each batch.

    Args:
        augment: Feature group to what may change in it.
        dataset: The dataset that the rows come from.
        seed: Another seed, other changes.

    Raises:
        SpecError: A group does not exist, is of another kind, or its shape does not allow what is asked for.
    """

    def __init__(self, augment: Mapping[str, Augment], dataset: Dataset, seed: int = 0) -> None:
        manifest = dataset.manifest
        self._text = f"augment/{ALGORITHM_VERSION}/{manifest.digest}/{seed}"
        self._changes = {name: _change(f"train.augment.{name}", name, spec, manifest) for name, spec in augment.items()}

    def __call__(
        self, features: Mapping[str, torch.Tensor], row_ids: np.ndarray, epoch: int
    ) -> dict[str, torch.Tensor]:
        """The features, changed; the tensors that are given stay as they are.

        Args:
            features: Group to a tensor `[rows, *shape]` in the processor's memory.
            row_ids: int64 `[rows]`, the rows' numbers in their split.
            epoch: The epoch's number.

        Returns:
            Tensors of the same shapes and types; groups that are not augmented are passed through.
        """
        changed = dict(features)
        for name, change in self._changes.items():
            tensor = features[name]
            if len(row_ids):
                changed[name] = _like(tensor, change(tensor.numpy(), self._key(name, epoch), row_ids))
        return changed

    def _key(self, group: str, epoch: int) -> int:
        digest = hashlib.sha256(f"{self._text}/{epoch}/{group}".encode()).digest()
        return int.from_bytes(digest[:8], "little")


def _like(tensor: torch.Tensor, values: np.ndarray) -> torch.Tensor:
    """A tensor of these values; pinned where the other one is, so that copies to a GPU do not wait."""
    made = torch.from_numpy(values)
    return made.pin_memory() if tensor.is_pinned() else made


def _change(place: str, name: str, spec: Augment, manifest: Manifest) -> _Change:
    groups = {group.name: group for group in manifest.columns.groups}
    if name not in groups:
        close = closest_match(name, list(groups))
        hint = f"did you mean {close}?" if close else f"it has {', '.join(groups)}"
        raise SpecError(f"{place}: the dataset has no group {name}; {hint}")
    group = groups[name]
    if group.kind != spec.kind:
        raise SpecError(f"{place}: kind {spec.kind}, but the group holds {group.kind}; write the kind that it holds")
    if isinstance(spec, ImageAugment):
        return _image_change(place, spec, group)
    if isinstance(spec, NumbersAugment):
        return _numbers_change(spec, _columns(place, spec.features or _numeric_features(manifest, group), group))
    if isinstance(spec, IdsAugment):
        return _ids_change(spec, _columns(place, spec.features or group.features, group))
    return _tokens_change(spec, _num_special_tokens(manifest, group))


def _image_change(place: str, spec: ImageAugment, group: Group) -> _Change:
    height, width, channels = group.shape
    if spec.crop >= min(height, width):
        raise SpecError(
            f"{place}.crop: {spec.crop} pixels, and the images have {height} x {width}; use less than"
            f" {min(height, width)}"
        )
    tinted = [name for name in ("brightness", "contrast", "saturation") if getattr(spec, name)]
    if tinted and channels not in (1, 3):
        raise SpecError(f"{place}.{tinted[0]}: the images have {channels} channels; colours need 1 or 3: remove it")
    if spec.saturation and channels == 1:
        raise SpecError(f"{place}.saturation: has no effect on images of one channel; remove it")
    return lambda images, key, row_ids: augment_images(images, spec, key, row_ids)


def _numbers_change(spec: NumbersAugment, chosen: np.ndarray) -> _Change:
    def change(values: np.ndarray, key: int, row_ids: np.ndarray) -> np.ndarray:
        changed, features = values.copy(), values.shape[1]
        if spec.noise:
            noise = normal(draws(key, row_ids, features, _NOISE)) * np.float32(spec.noise)
            np.add(changed, noise, out=changed, where=chosen)
        if spec.dropout:
            changed[happens(draws(key, row_ids, features, _DROPOUT), spec.dropout) & chosen] = 0
        return changed

    return change


def _ids_change(spec: IdsAugment, chosen: np.ndarray) -> _Change:
    def change(ids: np.ndarray, key: int, row_ids: np.ndarray) -> np.ndarray:
        dropped = happens(draws(key, row_ids, ids.shape[1], _DROPOUT), spec.dropout) & chosen
        return np.where(dropped, ids.dtype.type(UNKNOWN), ids)

    return change


def _tokens_change(spec: TokensAugment, num_special: int) -> _Change:
    def change(ids: np.ndarray, key: int, row_ids: np.ndarray) -> np.ndarray:
        dropped = happens(draws(key, row_ids, ids.shape[1], _DROPOUT), spec.dropout) & (ids >= num_special)
        return np.where(dropped, ids.dtype.type(UNKNOWN_TOKEN), ids)

    return change


def _num_special_tokens(manifest: Manifest, group: Group) -> int:
    """How many of the first ids stand for padding, the end of a text and the like."""
    transforms = manifest.preprocessing.get("transforms", ())
    specs = [entry["spec"] for entry in transforms if entry["kind"] == "text" and entry["name"] in group.features]
    return len(RESERVED) + sum(len(spec["special_tokens"]) for spec in specs)


def _columns(place: str, names: Iterable[str], group: Group) -> np.ndarray:
    """Which columns of a group have these names: bool `[features]`."""
    for name in names:
        if name not in group.features:
            close = closest_match(name, list(group.features))
            hint = f"did you mean {close}?" if close else f"it has {', '.join(group.features)}"
            raise SpecError(f"{place}.features: the group has no column {name}; {hint}")
    chosen = set(names)
    return np.array([feature in chosen for feature in group.features])


def _numeric_features(manifest: Manifest, group: Group) -> tuple[str, ...]:
    """The columns of a group that hold measured numbers; all of them in a dataset that does not tell."""
    transforms = manifest.preprocessing.get("transforms")
    if not transforms:
        return group.features
    numeric = {entry["name"] for entry in transforms if entry["kind"] == "numeric"}
    return tuple(feature for feature in group.features if feature in numeric)
