from __future__ import annotations

import datetime
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from farandole.errors import DataError
from farandole.privacy import Protection, Secret, as_in_training, decrypt_text, missing_policies, protected_type
from farandole.spec import Policy, Privacy

SECRET = Secret(b"k" * 32, "spring")
_POLICY: TypeAdapter[Policy] = TypeAdapter(Policy)


def policy(**fields: Any) -> Policy:
    return _POLICY.validate_python(fields)


def protect(values: Any, kind: pa.DataType, secret: Secret = SECRET, **fields: Any) -> list[Any]:
    array = values if isinstance(values, pa.Array) else pa.array(values, kind)
    protected = Protection({"c": policy(**fields)}, secret).protect("c", array)
    assert protected.type == protected_type("c", policy(**fields), kind)
    found: list[Any] = protected.to_pylist()
    return found


texts = st.lists(st.none() | st.text(max_size=12), max_size=30)


@given(texts, st.integers(0, 6))
def test_masked_value_shows_at_most_its_end(values: list[str | None], keep: int) -> None:
    for value, masked in zip(values, protect(values, pa.string(), policy="mask", keep_last=keep), strict=True):
        if value is None:
            assert masked is None
        elif len(value) <= keep:
            assert masked == "*" * len(value)
        else:
            assert masked == "*" * (len(value) - keep) + (value[-keep:] if keep else "")


@given(texts)
def test_pseudonyms_preserve_equality_and_depend_on_the_key(values: list[str | None]) -> None:
    protected = protect(values, pa.string(), policy="pseudonymise")
    others = protect(values, pa.string(), Secret(b"o" * 32, "o"), policy="pseudonymise")
    assert [name is None for name in protected] == [value is None for value in values]
    assert len({name for name in protected if name}) == len({value for value in values if value is not None})
    assert not {name for name in protected if name} & {name for name in others if name}
    assert protect(values, pa.string(), policy="pseudonymise", length=16) == [name and name[:16] for name in protected]


def test_pseudonym_does_not_depend_on_the_type_or_the_column() -> None:
    as_number = protect([5], pa.int64(), policy="pseudonymise")
    assert as_number == protect(["5"], pa.string(), policy="pseudonymise")
    elsewhere = Protection({"d": policy(policy="pseudonymise")}, SECRET).protect("d", pa.array([5]))
    assert elsewhere.to_pylist() == as_number


@given(texts)
def test_encrypted_values_can_be_decrypted(values: list[str | None]) -> None:
    protected = protect(values, pa.string(), policy="encrypt")
    assert [None if text is None else decrypt_text(SECRET, "c", text) for text in protected] == values


@given(st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), max_size=20), st.integers(1, 1000))
def test_integers_become_the_start_of_their_range(values: list[int | None], width: int) -> None:
    low = -(2**31)
    if any(value is not None and value // width * width < low for value in values):
        with pytest.raises(DataError, match="the start of a range does not fit"):
            protect(values, pa.int32(), policy="generalise", width=width)
        return
    expected = [None if value is None else value // width * width for value in values]
    assert protect(values, pa.int32(), policy="generalise", width=width) == expected


def test_floats_and_decimals_become_the_start_of_their_range() -> None:
    assert protect([0.0, 0.26, -0.1, None], pa.float64(), policy="generalise", width=0.25) == [0.0, 0.25, -0.25, None]
    starts = [number * 0.1 for number in (3, 7, 2, -3, 6)]
    assert protect([0.3, 0.7, 0.29, -0.3, 0.6], pa.float64(), policy="generalise", width=0.1) == starts
    assert math.isnan(protect([math.nan], pa.float32(), policy="generalise", width=2)[0])
    assert protect([Decimal("12.34"), None], pa.decimal128(5, 2), policy="generalise", width=5) == [10.0, None]
    assert protect([200, 7], pa.uint8(), policy="generalise", width=1000) == [0, 0]


def test_times_become_the_start_of_their_month() -> None:
    day = datetime.date(2024, 2, 29)
    assert protect([day, None], pa.date32(), policy="generalise", to="month") == [datetime.date(2024, 2, 1), None]
    assert protect([day], pa.date32(), policy="generalise", to="year") == [datetime.date(2024, 1, 1)]
    instant = datetime.datetime(1969, 7, 20, 20, 17, 40, tzinfo=datetime.UTC)
    kind = pa.timestamp("us", tz="UTC")
    assert protect([instant], kind, policy="generalise", to="hour") == [instant.replace(minute=0, second=0)]


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [
        (pa.string(), {"policy": "generalise", "width": 5}, "width is for numbers, and the column is string"),
        (pa.int32(), {"policy": "generalise", "width": 0.5}, "width 0.5 for integers"),
        (pa.int32(), {"policy": "generalise", "to": "month"}, "to month is for dates and timestamps"),
        (pa.date32(), {"policy": "generalise", "to": "hour"}, "a date has no hours"),
        (pa.binary(), {"policy": "mask"}, "mask needs text, numbers or dates, not binary"),
        (pa.list_(pa.int8()), {"policy": "encrypt"}, "encrypt needs text, numbers or dates, not list"),
    ],
)
def test_policy_that_does_not_fit_the_type_is_rejected(kind: pa.DataType, fields: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        Protection({"c": policy(**fields)}, SECRET).protect("c", pa.array([], kind))


def test_batch_keeps_columns_without_a_policy_and_loses_dropped_ones() -> None:
    batch = pa.record_batch({"a": pa.array([1, 2]), "b": pa.array(["x", "y"]), "c": pa.array(["12345", None])})
    policies = {"a": policy(policy="drop"), "b": policy(policy="allow"), "c": policy(policy="mask", keep_last=2)}
    assert Protection(policies).apply(batch).to_pydict() == {"b": ["x", "y"], "c": ["***45", None]}


WANTED = Privacy.model_validate(
    {
        "columns": {
            "age": {"policy": "generalise", "width": 10},
            "email": {"policy": "drop"},
            "city": {"policy": "allow"},
        },
        "k_anonymity": {"columns": ["age", "city"], "k": 5},
    }
)


def recorded(**changes: Any) -> dict[str, Any]:
    columns = {name: policy.model_dump(mode="json") for name, policy in WANTED.columns.items()}
    return {"columns": columns, "k_anonymity": {"columns": ["city", "age"], "smallest_group": 5}, **changes}


def test_dataset_prepared_as_required_is_missing_nothing() -> None:
    assert missing_policies(WANTED, recorded()) == []
    assert missing_policies(Privacy(), {}) == []


def test_dataset_can_have_more_policies_than_the_job() -> None:
    assert missing_policies(Privacy(), recorded()) == []
    assert missing_policies(Privacy.model_validate({"columns": {"age": {"policy": "allow"}}}), {}) == []


def test_missing_policy_is_named_with_its_column() -> None:
    columns = {"age": {"policy": "generalise", "width": 5.0, "to": None}}
    assert missing_policies(WANTED, recorded(columns=columns)) == [
        "data.privacy.columns.age: the job requires generalise (width 10.0), the dataset has generalise (width 5.0)",
        "data.privacy.columns.email: the job requires drop, the dataset has no policy",
    ]


def test_groups_must_be_large_enough_and_over_the_same_columns() -> None:
    for measured, text in (
        ({"columns": ["age", "city"], "smallest_group": 4}, "groups of 4"),
        ({"columns": ["age"], "smallest_group": 9}, "no such measurement"),
        (None, "no such measurement"),
    ):
        assert missing_policies(WANTED, recorded(k_anonymity=measured)) == [
            f"data.privacy.k_anonymity: the job requires groups of 5 over age, city, the dataset has {text}"
        ]


def _served(values: Any, kind: pa.DataType, **fields: Any) -> list[Any]:
    found: list[Any] = as_in_training("c", policy(**fields), pa.array(values, kind)).to_pylist()
    return found


@given(texts, st.integers(0, 6))
def test_raw_and_masked_values_of_a_caller_become_those_of_the_training(values: list[str | None], keep: int) -> None:
    masked = protect(values, pa.string(), policy="mask", keep_last=keep)
    assert _served(values, pa.string(), policy="mask", keep_last=keep) == masked
    assert _served(masked, pa.string(), policy="mask", keep_last=keep) == masked


@given(st.lists(st.none() | st.floats(-1e9, 1e9)), st.sampled_from([0.1, 0.25, 3, 10, 1000]))
def test_raw_and_generalised_numbers_of_a_caller_become_those_of_the_training(
    values: list[float | None], width: float
) -> None:
    ranges = protect(values, pa.float64(), policy="generalise", width=width)
    assert _served(values, pa.float64(), policy="generalise", width=width) == ranges
    assert _served(ranges, pa.float64(), policy="generalise", width=width) == ranges


def test_raw_and_redacted_texts_of_a_caller_become_those_of_the_training() -> None:
    values = ["write to ada@example.org", "card 4111 1111 1111 1111, or call +1 212-555-0123", None, "nothing"]
    redacted = protect(values, pa.string(), policy="redact")
    assert _served(values, pa.string(), policy="redact") == redacted
    assert _served(redacted, pa.string(), policy="redact") == redacted


@pytest.mark.parametrize("fields", [{"policy": "pseudonymise"}, {"policy": "pseudonymise", "length": 16},
                                    {"policy": "encrypt"}])  # fmt: skip
@given(values=texts)
def test_values_of_a_caller_must_come_protected_where_that_needs_a_key(
    fields: dict[str, Any], values: list[str | None]
) -> None:
    protected = protect(values, pa.string(), **fields)
    assert _served(protected, pa.string(), **fields) == protected
    if any(value is not None for value in values):
        with pytest.raises(DataError, match=f"^column c: a value is not protected .*`{fields['policy']}`") as caught:
            _served([*protected, *values], pa.string(), **fields)
        assert not [value for value in values if value and len(value) > 4 and value in str(caught.value)]


@pytest.mark.parametrize("raw", ["ada@example.org", "DE89370400440532013000", "1" * 32, "é" * 40])
def test_raw_value_is_not_taken_for_an_encrypted_one(raw: str) -> None:
    with pytest.raises(DataError, match="not protected"):
        _served([raw], pa.string(), policy="encrypt")
