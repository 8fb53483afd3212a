"""Privacy policies on Arrow arrays, and the check that a dataset was protected as a job requires.

There is one implementation, for Spark's executors and for the rows that a served model receives.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farandole.errors import DataError
from farandole.privacy.cipher import encrypt_text
from farandole.privacy.keys import Secret
from farandole.privacy.redaction import Redactor
from farandole.spec import Allow, Drop, Encrypt, Generalise, Mask, Policy, Privacy, Pseudonymise, Redact

_PSEUDONYMS = "farandole pseudonyms"
_ENCRYPTED = "^([A-Za-z0-9+/]{4}){9,}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$"
"""Base64 of at least the 28 bytes of a nonce and a tag."""
_TEXT = (Mask, Pseudonymise, Encrypt)


@dataclass(frozen=True)
class Protection:
    """The policies of all columns.

    Args:
        policies: Column to policy.
        secret: The key, if a policy needs one.
    """

    policies: Mapping[str, Policy]
    secret: Secret | None = None

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Apply the policies to rows. Columns without a policy stay, dropped ones are removed, nulls stay null.

        Raises:
            DataError: A policy does not fit its column's type.
        """
        columns = {
            name: self.protect(name, batch.column(index))
            for index, name in enumerate(batch.schema.names)
            if not isinstance(self.policies.get(name), Drop)
        }
        return pa.record_batch(columns)

    def protect(self, column: str, values: pa.Array) -> pa.Array:
        """Apply the policy of one column to its values."""
        policy = self.policies.get(column)
        if policy is None or isinstance(policy, Allow):
            return values
        protected_type(column, policy, values.type)
        if isinstance(policy, Generalise):
            return _by_width(column, policy.width, values) if policy.width else _by_calendar(policy.to, values)
        if isinstance(policy, Mask):
            return _map_distinct(values, lambda text: _mask(text, policy.keep_last))
        if isinstance(policy, Redact):
            return Redactor(policy, column).redact(values.cast(pa.string()))
        assert self.secret is not None, f"{column}: no key"
        secret = self.secret
        if isinstance(policy, Pseudonymise):
            key = secret.derive(_PSEUDONYMS)
            return _map_distinct(values, lambda text: hmac.digest(key, text.encode(), "sha256").hex()[: policy.length])
        return _map_distinct(values, lambda text: encrypt_text(secret, column, text))


def as_in_training(column: str, policy: Policy, values: pa.Array) -> pa.Array:
    """Return values of rows to predict as the policy left those of the training.

    Policies without a key are applied; what they have returned before, they return again. The key of the others is not
    where a model is, so their values must come protected.

    Raises:
        DataError: A value was not pseudonymised or encrypted.
    """
    if isinstance(policy, Drop | Allow):
        return values
    if isinstance(policy, Pseudonymise):
        form = f"^[0-9a-f]{{{policy.length}}}$"
    elif isinstance(policy, Encrypt):
        form = _ENCRYPTED
    else:
        return Protection({column: policy}).protect(column, values)
    fits = pc.match_substring_regex(values.cast(pa.string()), form)
    if pc.all(fits).as_py() is False:
        raise DataError(
            f"column {column}: a value is not protected as in training; apply `{policy.policy}` to the rows first, with"
            " the job's key: farandole.privacy.Protection does it"
        )
    return values


def protected_type(column: str, policy: Policy, arrow_type: pa.DataType) -> pa.DataType:
    """Return the type of a column after its policy.

    Raises:
        DataError: The policy does not fit the type.
    """
    field_path = f"data.privacy.columns.{column}"
    number = pa.types.is_integer(arrow_type) or pa.types.is_floating(arrow_type) or pa.types.is_decimal(arrow_type)
    if isinstance(policy, _TEXT):
        if pa.types.is_nested(arrow_type) or pa.types.is_binary(arrow_type):
            raise DataError(
                f"{field_path}: {policy.policy} needs text, numbers or dates, not {arrow_type}; cast it in the query"
            )
        return pa.string()
    if isinstance(policy, Redact):
        if not (pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type)):
            raise DataError(f"{field_path}: redact is for text, and the column is {arrow_type}; use mask or generalise")
        return pa.string()
    if not isinstance(policy, Generalise):
        return arrow_type
    if policy.width is not None and not number:
        raise DataError(f"{field_path}: width is for numbers, and the column is {arrow_type}; use `to`, or mask it")
    if policy.width is not None and pa.types.is_integer(arrow_type) and policy.width != int(policy.width):
        raise DataError(f"{field_path}: width {policy.width:g} for integers; use an integer")
    if policy.to is not None and not (pa.types.is_timestamp(arrow_type) or pa.types.is_date(arrow_type)):
        raise DataError(
            f"{field_path}: to {policy.to} is for dates and timestamps, and the column is {arrow_type}; use `width`"
        )
    if policy.to == "hour" and pa.types.is_date(arrow_type):
        raise DataError(f"{field_path}: a date has no hours; use `to: month`, for example")
    return pa.float64() if pa.types.is_decimal(arrow_type) else arrow_type


def missing_policies(wanted: Privacy, recorded: Mapping[str, Any]) -> list[str]:
    """Return the privacy requirements of a job that a dataset does not meet, one line each.

    Args:
        wanted: The job's `data.privacy`.
        recorded: The `privacy` part of the dataset's manifest.
    """
    applied = recorded.get("columns", {})
    missing = []
    for column, policy in wanted.columns.items():
        if isinstance(policy, Allow):
            continue
        required = policy.model_dump(mode="json")
        found = applied.get(column)
        if found != required:
            missing.append(
                f"data.privacy.columns.{column}: the job requires {_describe(required)}, the dataset has"
                f" {_describe(found)}"
            )
    group = wanted.k_anonymity
    if group is not None and group.k is not None:
        measured = recorded.get("k_anonymity") or {}
        same = sorted(measured.get("columns", ())) == sorted(group.columns)
        if not same or measured.get("smallest_group", 0) < group.k:
            found_k = f"groups of {measured['smallest_group']}" if same else "no such measurement"
            missing.append(
                f"data.privacy.k_anonymity: the job requires groups of {group.k} over {', '.join(group.columns)}, the"
                f" dataset has {found_k}"
            )
    return missing


def _describe(policy: Mapping[str, Any] | None) -> str:
    """Return a policy in words: `generalise (width 10)`."""
    if policy is None:
        return "no policy"
    options = ", ".join(f"{key} {value}" for key, value in policy.items() if key != "policy" and value is not None)
    return f"{policy['policy']} ({options})" if options else str(policy["policy"])


def _map_distinct(values: pa.Array, function: Callable[[str], str]) -> pa.StringArray:
    """Apply a function to the values as text, once for each distinct value."""
    encoded = values.cast(pa.string()).dictionary_encode()
    mapped = pa.array([function(text) for text in encoded.dictionary.to_pylist()], pa.string())
    return mapped.take(encoded.indices)


def _mask(text: str, keep_last: int) -> str:
    keep = keep_last if len(text) > keep_last else 0
    return "*" * (len(text) - keep) + text[len(text) - keep :]


def _by_width(column: str, width: float, values: pa.Array) -> pa.Array:
    if not pa.types.is_integer(values.type):
        float_type = values.type if pa.types.is_floating(values.type) else pa.float64()
        ranges = pc.divide(values.cast(pa.float64(), safe=False), width)
        nearest = pc.round(ranges)
        # 0.3 / 0.1 is slightly less than 3, yet 0.3 is the start of its range.
        precision = 4 * np.finfo(float_type.to_pandas_dtype()).eps
        close = pc.less_equal(pc.abs(pc.subtract(ranges, nearest)), pc.multiply(pc.abs(ranges), precision))
        return pc.multiply(pc.if_else(close, nearest, pc.floor(ranges)), width).cast(float_type, safe=False)
    missing = np.asarray(values.is_null())
    numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
    start = numbers // int(width) * int(width) if width <= np.iinfo(numbers.dtype).max else np.minimum(numbers, 0)
    if (start > numbers).any() or (width > np.iinfo(numbers.dtype).max and (numbers < 0).any()):
        raise DataError(
            f"data.privacy.columns.{column}: with width {width:g}, the start of a range does not fit {values.type};"
            " use a smaller width, or cast the column to bigint"
        )
    return pa.array(start, values.type, mask=missing)


def _by_calendar(unit: str | None, values: pa.Array) -> pa.Array:
    return pc.floor_temporal(values, unit=unit).cast(values.type)
