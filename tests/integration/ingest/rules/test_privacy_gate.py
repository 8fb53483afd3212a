from __future__ import annotations

import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farandole.errors import DataError, SpecError
from farandole.events import Event
from farandole.ingest.rules.privacy_gate import PrivacyGate
from farandole.privacy import decrypt_text, read_key
from farandole.spec import Job, KeyReference, Privacy
from tests.support.ingest_inputs import MakeJob, Prepare, Refuse, Write, columns, shard_bytes
from tests.support.people import (
    CARDS,
    KEY,
    KEY_VARIABLE,
    OTHER_KEY,
    PEOPLE,
    POLICIES,
    SECRETS,
    people_csv,
    people_data,
    texts_below,
)

PeopleJob = Callable[..., Job]


@pytest.fixture
def people_job(write: Write, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> PeopleJob:
    """Return the function that makes the job over people with a policy of every kind and changed `data` fields."""
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    write("people.csv", people_csv())

    def make(**changes: Any) -> Job:
        return make_job(people_data(**changes))

    return make


def leaks(contents: dict[str, bytes], *secrets: str) -> list[tuple[str, str]]:
    """Return the secrets that occur, with the names of their files."""
    return [(name, secret) for name, content in contents.items() for secret in secrets if secret.encode() in content]


def vocabulary(manifest: Any, name: str) -> list[str]:
    return next(entry["vocabulary"] for entry in manifest.preprocessing["transforms"] if entry["name"] == name)


def test_neither_protected_values_nor_the_key_appear_anywhere(
    people_job: PeopleJob, prepare: Prepare, tmp_path: Path
) -> None:
    events: list[Event] = []
    prepared = prepare(people_job(), events.append)
    found = texts_below(prepared.path)
    assert len(found) == 4  # three splits and the manifest
    key = bytes.fromhex(KEY)
    assert leaks(found, *SECRETS, KEY) == []
    assert not any(key in content for content in found.values())
    assert not any(secret in str(event) for event in events for secret in [*SECRETS, KEY])

    manifest = prepared.manifest
    ends = {row["phone"][-2:] for row in PEOPLE}
    assert {entry.lstrip("*") for entry in vocabulary(manifest, "phone")} <= ends
    assert set(vocabulary(manifest, "card")) == {"*" * (len(card) - 4) + card[-4:] for card in CARDS}
    assert {len(entry) for entry in vocabulary(manifest, "user")} == {32}
    assert all(entry.endswith("-01-01") for entry in vocabulary(manifest, "born"))
    ages = np.concatenate([columns(prepared.path, split)["dense"][:, 0] for split in manifest.splits])
    assert sorted(set(ages.tolist())) == [20.0, 30.0, 40.0, 50.0]


def test_pseudonyms_are_hmacs_and_ciphertexts_can_be_decrypted(people_job: PeopleJob, prepare: Prepare) -> None:
    manifest = prepare(people_job()).manifest
    secret = read_key(KeyReference(environment=KEY_VARIABLE), "key")
    derived = secret.derive("farandole pseudonyms")
    expected = {hmac.digest(derived, str(row["user"]).encode(), "sha256").hex()[:32] for row in PEOPLE}
    assert set(vocabulary(manifest, "user")) <= expected
    names = {decrypt_text(secret, "name", entry) for entry in vocabulary(manifest, "name")}
    assert names <= {row["name"] for row in PEOPLE}
    assert len(names) > 30


def test_manifest_records_the_privacy_rules(people_job: PeopleJob, prepare: Prepare) -> None:
    privacy = prepare(people_job()).manifest.privacy
    assert {column: policy["policy"] for column, policy in privacy["columns"].items()} == {
        column: policy["policy"] for column, policy in POLICIES.items()
    }
    assert privacy["detect"] is True
    assert privacy["key"]["name"] == KEY_VARIABLE
    assert len(privacy["key"]["fingerprint"]) == 16


def test_same_key_gives_the_same_bytes_and_another_key_prepares_again(
    people_job: PeopleJob, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(people_job(partitions=1))
    shards = shard_bytes(first.path)
    again = prepare(people_job(partitions=3), force=True)
    assert (shard_bytes(again.path), again.manifest.digest) == (shards, first.manifest.digest)
    assert prepare(people_job()).reused

    monkeypatch.setenv(KEY_VARIABLE, OTHER_KEY)
    other = prepare(people_job())
    assert not other.reused
    assert other.manifest.digest != first.manifest.digest
    assert other.manifest.privacy["key"]["fingerprint"] != first.manifest.privacy["key"]["fingerprint"]


def test_missing_key_is_reported_before_spark_starts(
    people_job: PeopleJob, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(SpecError, match=rf"data\.privacy\.key\.environment: {KEY_VARIABLE}: the variable is not set"):
        prepare(people_job())


def test_personal_data_without_a_policy_stops_the_preparation(people_job: PeopleJob, refuse: Refuse) -> None:
    query = "SELECT *, concat('mail to ', email) AS contact FROM people"
    features = {
        "contact": {"kind": "categorical"},  # a copy under another name
        "phone": {"kind": "categorical"},
        "card": {"kind": "categorical"},
        "city": {"kind": "categorical"},
    }
    error = refuse(people_job(query=query, features=features, privacy={"columns": {"city": {"policy": "mask"}}}))
    lines = str(error).splitlines()
    assert [line.split(";")[0] for line in lines] == [
        "data.privacy: column card: 120 values (100.0%) look like card numbers (searched: the first 120 rows)",
        "data.privacy: column contact: 120 values (100.0%) look like e-mail addresses (searched: the first 120 rows)",
        "data.privacy: column phone: 120 values (100.0%) look like phone numbers (searched: the first 120 rows)",
    ]
    assert "policy: allow" in lines[0]
    assert not any(secret in f"{error}{error.detail}" for secret in SECRETS)


def test_personal_data_in_the_first_rows_is_reported_before_spark_starts(
    people_job: PeopleJob, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("farandole.ingest.prepare.spark_session")
    features = {"phone": {"kind": "categorical"}, "city": {"kind": "categorical"}}
    error = refuse(people_job(features=features, privacy={}))
    assert str(error).startswith("data.privacy: column phone: 120 values (100.0%) look like phone numbers (searched:")


def test_personal_data_inside_a_text_is_redacted(people_job: PeopleJob, prepare: Prepare) -> None:
    query = "SELECT *, concat('mail to ', email, ' or ring ', phone) AS note FROM people"
    features = {"note": {"kind": "categorical"}, "amount": {"kind": "numeric"}}
    made = prepare(people_job(query=query, features=features, privacy={"columns": {"note": {"policy": "redact"}}}))
    fitted = made.manifest.preprocessing
    assert "mail to [e-mail] or ring [phone]" in str(fitted)
    assert "mail.example" not in str(made.manifest.model_dump())


def test_allowed_findings_are_recorded_and_detection_can_be_disabled(people_job: PeopleJob, prepare: Prepare) -> None:
    features = {"phone": {"kind": "categorical"}, "city": {"kind": "categorical"}}
    allowed = prepare(people_job(features=features, privacy={"columns": {"phone": {"policy": "allow"}}})).manifest
    assert allowed.privacy["allowed_findings"] == [
        {"column": "phone", "kind": "phone numbers", "count": 120, "share": 1.0}
    ]
    unseen = prepare(people_job(features=features, privacy={"detect": False})).manifest
    assert unseen.privacy["detect"] is False
    assert unseen.privacy["allowed_findings"] == []
    assert allowed.digest == unseen.digest


def test_few_findings_are_enough_unless_the_job_sets_a_share(
    people_job: PeopleJob, prepare: Prepare, refuse: Refuse
) -> None:
    query = "SELECT *, if(amount = 0.5, email, city) AS note FROM people"
    features = {"note": {"kind": "categorical"}, "amount": {"kind": "numeric"}}
    error = refuse(people_job(query=query, features=features, privacy={}))
    assert "column note: 1 values (0.8%) look like e-mail addresses" in str(error)
    prepare(people_job(query=query, features=features, privacy={"detect_share": 0.1}))


def test_a_policy_without_its_column_is_refused(people_job: PeopleJob, refuse: Refuse) -> None:
    error = refuse(people_job(privacy={"columns": {"emial": {"policy": "drop"}}}))
    assert str(error) == ("data.privacy.columns.emial: the query does not return such a column; did you mean email?")


def test_a_policy_that_does_not_fit_the_columns_type_is_refused(people_job: PeopleJob, refuse: Refuse) -> None:
    error = refuse(people_job(privacy={"detect": False, "columns": {"city": {"policy": "generalise", "width": 5}}}))
    assert str(error).startswith("data.privacy.columns.city: width is for numbers, and the column is string")


def test_small_groups_are_measured_or_suppressed(people_job: PeopleJob, prepare: Prepare, refuse: Refuse) -> None:
    features = {"age": {"kind": "numeric"}, "city": {"kind": "categorical"}, "amount": {"kind": "numeric"}}
    query = "SELECT * FROM people WHERE age < 53"

    def job(**rule: Any) -> Job:
        policies = {"age": {"policy": "generalise", "width": 10}}
        group = {"columns": ["age", "city"], **rule}
        return people_job(query=query, features=features, privacy={"columns": policies, "k_anonymity": group})

    # Ages 20 to 52 have three rows each: 15 rows per decade and city, but 6 and 3 for 50 to 52.
    measured = prepare(job()).manifest.privacy["k_anonymity"]
    assert measured == {
        "columns": ["age", "city"],
        "k": None,
        "smallest_group": 3,
        "groups": 8,
        "rows_in_smaller_groups": 0,
        "suppressed_rows": 0,
    }
    suppressed = prepare(job(k=10, suppress=True)).manifest
    assert suppressed.privacy["k_anonymity"]["suppressed_rows"] == 9
    assert suppressed.privacy["k_anonymity"]["smallest_group"] == 15
    assert suppressed.privacy["k_anonymity"]["groups"] == 6
    assert sum(suppressed.row_counts.values()) == 90


def test_small_groups_are_refused_with_their_rows(people_job: PeopleJob, refuse: Refuse) -> None:
    group = {"columns": ["age"], "k": 5}
    error = refuse(
        people_job(
            privacy={
                "columns": {**POLICIES, "age": {"policy": "allow"}},
                "key": {"environment": KEY_VARIABLE},
                "k_anonymity": group,
            }
        )
    )
    assert str(error).startswith(
        "data.privacy.k_anonymity: 120 rows are in 40 of 40 groups over age that have fewer than 5 rows"
        " (the smallest: 3)"
    )


def test_spark_errors_hide_values_if_columns_are_protected(people_job: PeopleJob, refuse: Refuse) -> None:
    columns = "user, name, email, phone, age, born, city, card, bought"
    error = refuse(people_job(query=f"SELECT {columns}, CAST(name AS double) AS amount FROM people"))
    assert "values are not shown" in str(error)
    assert error.detail is None
    assert error.__cause__ is None
    assert not any(secret in str(error) for secret in SECRETS)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            'The value \'O\'Brien\' of the type "STRING" cannot be cast to "DOUBLE" because it is malformed.',
            "The value '…' of the type STRING cannot be cast to DOUBLE because it is malformed.",
        ),
        (
            'data.query: [CAST_OVERFLOW] The value 5123456789L of the type "BIGINT" cannot be cast to "INT"',
            "data.query: [CAST_OVERFLOW] The value … of the type BIGINT cannot be cast to INT",
        ),
        (
            "data.query: [CAST_INVALID_INPUT] The value 'Ada",
            "data.query: [CAST_INVALID_INPUT] The value '…",
        ),
        (
            "/data/a.csv: column name: 'Ada', 'Bob' in 2 rows is not int",
            "/data/a.csv: column name: '…' in 2 rows is not int",
        ),
        ('line 3: "O\'Brien,5" (1 such row)', "line 3: '…' (1 such row)"),
        ("column name: 'Ada', \"O'Brien\" in 2 rows", "column name: '…' in 2 rows"),
        ('column name: \'a"b\' in 1 row; write `["a\\"b"]` of it', "column name: '…'] of it".replace("]", "]`")),
        ('one of ["SMITH"] is expected', "one of ['…'] is expected"),
        ("of ada@mail.example, unquoted", "of [e-mail addresses], unquoted"),
    ],
)
def test_possible_values_are_removed_from_errors(text: str, shown: str) -> None:
    privacy = Privacy.model_validate({"columns": {"name": {"policy": "mask"}}})
    quotes_spark = text.startswith("data.query: ")
    hidden = PrivacyGate(privacy, None).hide_values(DataError(text, detail="Ada"), quotes_spark=quotes_spark)
    assert str(hidden) == f"{shown} (values are not shown: data.privacy protects columns of this job)"
    assert hidden.detail is None
    open_ones = PrivacyGate(Privacy(), None).hide_values(DataError(text, detail="Ada"))
    assert (str(open_ones), open_ones.detail) == (text, "Ada")


@pytest.mark.parametrize("changed", ["ragged", "wrong type", "unclosed quote"])
def test_malformed_rows_are_reported_without_their_values(
    people_job: PeopleJob, refuse: Refuse, write: Write, changed: str
) -> None:
    rows = people_csv().splitlines()
    row = rows[7].split(",")
    row = {
        "ragged": [*row, "more"],
        "wrong type": [row[1], *row[1:]],
        "unclosed quote": [*row[:2], '"' + row[2], *row[3:]],
    }[changed]
    write("people.csv", "\n".join([*rows[:7], ",".join(row), *rows[8:]]) + "\n")
    error = refuse(people_job())
    assert "people.csv" in str(error)
    assert leaks({"error": f"{error} {error.detail}".encode()}, *SECRETS) == []
    assert error.__cause__ is None
