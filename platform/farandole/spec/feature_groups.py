"""The groups of features, which become a dataset's tensors, and the rules that the features of one group follow."""

from __future__ import annotations

from farandole.spec.features import Bucket, Categorical, Feature, Numeric, Text, Time

_RESERVED_PREFIX = "_farandole_"
_SHARED = ("numbers", "ids")
"""Contents of groups that several features may share, as columns."""


def raw_column(name: str, feature: Feature) -> str:
    """Return the raw column that a feature is made of; a column's name may be empty text."""
    return name if feature.column is None else feature.column


def feature_groups(features: dict[str, Feature]) -> dict[str, str]:
    """Return the groups of all features together, and the content kind of each.

    Args:
        features: Name to feature.

    Raises:
        ValueError: Features that cannot be columns of one tensor share a group, two columns of a group have the same
            name, or a group has a reserved name.
    """
    owners: dict[str, tuple[str, str]] = {}
    for name, feature in features.items():
        for group, kind in feature.groups(name).items():
            owner, owner_kind = owners.setdefault(group, (name, kind))
            if group == "label":
                raise ValueError(f"features.{name}: a group cannot be named `label`; choose another name")
            if owner_kind != kind and owner_kind in _SHARED and kind in _SHARED:
                raise ValueError(
                    f"features.{name}: group {group} holds {owner_kind}; a group holds either float32 numbers or int32"
                    " ids; name another group"
                )
            if owner != name and not (owner_kind in _SHARED and kind in _SHARED):
                raise ValueError(
                    f"features.{name}: group {group} belongs to features.{owner}; texts, images and tensors cannot"
                    " share a group; name another group"
                )
        if any(group.startswith(_RESERVED_PREFIX) for group in feature.groups(name)):
            raise ValueError(f"features.{name}: names of groups that begin with {_RESERVED_PREFIX} are reserved")
        if isinstance(feature, Text) and feature.mode == "pack" and len(features) > 1:
            raise ValueError(
                f"features.{name}: `mode: pack` joins rows, so it must be the only feature; remove"
                f" {', '.join(other for other in features if other != name)}, or use `mode: pad`"
            )
    _check_columns(features)
    return {group: kind for group, (_, kind) in owners.items()}


def _check_columns(features: dict[str, Feature]) -> None:
    """Check that no two columns of a group have the same name.

    Raises:
        ValueError: A feature is named like a column that another one makes.
    """
    owners: dict[tuple[str, str], str] = {}
    for name, feature in features.items():
        if isinstance(feature, Numeric | Categorical | Bucket | Time):
            (group,) = feature.groups(name)
            for column in feature.columns(name):
                owner = owners.setdefault((group, column), name)
                if owner != name:
                    maker = owner if column != owner else name
                    raise ValueError(
                        f"features.{name}: group {group} would have two columns {column}: features.{maker} makes one"
                        f" too; rename features.{name} (`column:` names the raw column)"
                    )
