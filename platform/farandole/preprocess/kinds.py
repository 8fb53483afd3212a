"""The kinds of features: which class does what a job file declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farandole.preprocess.bucket import BucketTransform
from farandole.preprocess.categorical import HashTransform, VocabularyTransform
from farandole.preprocess.image import ImageTransform
from farandole.preprocess.numeric import NumericTransform
from farandole.preprocess.tensor import TensorTransform
from farandole.preprocess.text import TextTransform
from farandole.preprocess.times import TimeNumbersTransform, TimeTransform
from farandole.preprocess.transform import Transform
from farandole.spec import Feature

_KINDS: dict[str, type[Transform]] = {
    "numeric": NumericTransform,
    "vocabulary": VocabularyTransform,
    "hash": HashTransform,
    "bucket": BucketTransform,
    "time": TimeTransform,
    "time numbers": TimeNumbersTransform,
    "text": TextTransform,
    "tensor": TensorTransform,
    "image": ImageTransform,
}
"""By the names that manifests carry."""


def transform_from_spec(name: str, feature: Feature) -> Transform:
    """A feature as the job file declares it, not fitted."""
    return _KINDS[_kind_of(feature)](name, feature.column or name, feature)


def transform_to_dict(transform: Transform) -> dict[str, Any]:
    """As data, with its kind."""
    kind = next(kind for kind, made in _KINDS.items() if type(transform) is made)
    return {"kind": kind, **transform.to_dict()}


def transform_from_dict(data: Mapping[str, Any]) -> Transform:
    """What `transform_to_dict` was made of."""
    return _KINDS[data["kind"]].from_dict(data)


def _kind_of(feature: Feature) -> str:
    if feature.kind == "categorical":
        return "hash" if feature.encoding == "hash" else "vocabulary"
    if feature.kind == "time" and feature.encoding == "number":
        return "time numbers"
    return feature.kind
