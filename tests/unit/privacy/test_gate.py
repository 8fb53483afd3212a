from __future__ import annotations

from typing import Any

from farandole.privacy import missing_policies
from farandole.spec import Privacy

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


def test_a_dataset_that_was_prepared_as_demanded_lacks_nothing() -> None:
    assert missing_policies(WANTED, recorded()) == []
    assert missing_policies(Privacy(), {}) == []


def test_a_dataset_may_have_stricter_policies_than_the_job() -> None:
    assert missing_policies(Privacy(), recorded()) == []
    assert missing_policies(Privacy.model_validate({"columns": {"age": {"policy": "allow"}}}), {}) == []


def test_what_is_lacking_is_named_with_its_column_and_policy() -> None:
    columns = {"age": {"policy": "generalise", "width": 5.0, "to": None}}
    assert missing_policies(WANTED, recorded(columns=columns)) == [
        "data.privacy.columns.age: the job requires generalise (width 10.0), the dataset has generalise (width 5.0)",
        "data.privacy.columns.email: the job requires drop, the dataset has no policy",
    ]


def test_groups_must_be_large_enough_and_of_the_same_columns() -> None:
    for measured, text in (
        ({"columns": ["age", "city"], "smallest_group": 4}, "groups of 4"),
        ({"columns": ["age"], "smallest_group": 9}, "no such measurement"),
        (None, "no such measurement"),
    ):
        assert missing_policies(WANTED, recorded(k_anonymity=measured)) == [
            f"data.privacy.k_anonymity: the job requires groups of 5 over age, city, the dataset has {text}"
        ]
