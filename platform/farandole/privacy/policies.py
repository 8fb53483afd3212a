"""Policies on Arrow arrays. One implementation: for Spark's executors and for rows that a model is asked about."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farandole.errors import DataError
from farandole.privacy.cipher import encrypt_text
from farandole.privacy.keys import Secret
from farandole.spec import Allow, Drop, Encrypt, Generalise, Mask, Policy, Pseudonymise

_PSEUDONYMS = "farandole pseudonyms"
_TEXT = (Mask, Pseudonymise, Encrypt)


@dataclass(frozen=True)
class Protection:
    """The policies of all columns.

    Args:
        policies: Column to policy.
        secret: The key, where a policy needs one.
    """

    policies: Mapping[str, Policy]
    secret: Secret | None = None

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows as the policies leave them; columns without a policy stay, dropped ones go. Missing stays missing.

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
        """One column as its policy leaves it."""
        policy = self.policies.get(column)
        if policy is None or isinstance(policy, Allow):
            return values
        protected_type(column, policy, values.type)
        if isinstance(policy, Generalise):
            return _by_width(column, policy.width, values) if policy.width else _by_calendar(policy.to, values)
        if isinstance(policy, Mask):
            return _each_distinct(values, lambda text: _masked(text, policy.keep_last))
        assert self.secret is not None, f"{column}: no key"
        secret = self.secret
        if isinstance(policy, Pseudonymise):
            key = secret.derived(_PSEUDONYMS)
            return _each_distinct(values, lambda text: hmac.digest(key, text.encode(), "sha256").hex()[: policy.length])
        return _each_distinct(values, lambda text: encrypt_text(secret, column, text))


def protected_type(column: str, policy: Policy, kind: pa.DataType) -> pa.DataType:
    """The type of a column once its policy was applied.

    Raises:
        DataError: The policy does not fit the type.
    """
    place = f"data.privacy.columns.{column}"
    if isinstance(policy, _TEXT):
        if pa.types.is_nested(kind) or pa.types.is_binary(kind):
            raise DataError(f"{place}: {policy.policy} needs text, numbers or dates, not {kind}; cast it in the query")
        return pa.string()
    if not isinstance(policy, Generalise):
        return kind
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if policy.width is not None and not number:
        raise DataError(f"{place}: width is for numbers, and the column is {kind}; use `to`, or mask it")
    if policy.width is not None and pa.types.is_integer(kind) and policy.width != int(policy.width):
        raise DataError(f"{place}: width {policy.width:g} for whole numbers; use a whole number")
    if policy.to is not None and not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise DataError(f"{place}: to {policy.to} is for dates and timestamps, and the column is {kind}; use `width`")
    if policy.to == "hour" and pa.types.is_date(kind):
        raise DataError(f"{place}: a date has no hours; use `to: month`, for example")
    return pa.float64() if pa.types.is_decimal(kind) else kind


def _each_distinct(values: pa.Array, change: Callable[[str], str]) -> pa.StringArray:
    """Change values as text, each distinct one once."""
    encoded = values.cast(pa.string()).dictionary_encode()
    changed = pa.array([change(text) for text in encoded.dictionary.to_pylist()], pa.string())
    return changed.take(encoded.indices)


def _masked(text: str, keep_last: int) -> str:
    keep = keep_last if len(text) > keep_last else 0
    return "*" * (len(text) - keep) + text[len(text) - keep :]


def _by_width(column: str, width: float, values: pa.Array) -> pa.Array:
    if not pa.types.is_integer(values.type):
        kind = values.type if pa.types.is_floating(values.type) else pa.float64()
        ranges = pc.divide(values.cast(pa.float64(), safe=False), width)
        nearest = pc.round(ranges)
        # 0.3 / 0.1 is a little less than 3, yet 0.3 is where its range begins.
        precision = 4 * np.finfo(kind.to_pandas_dtype()).eps
        close = pc.less_equal(pc.abs(pc.subtract(ranges, nearest)), pc.multiply(pc.abs(ranges), precision))
        return pc.multiply(pc.if_else(close, nearest, pc.floor(ranges)), width).cast(kind, safe=False)
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
