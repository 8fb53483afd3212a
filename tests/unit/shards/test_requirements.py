from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farandole.errors import DatasetError
from farandole.shards import Manifest, require_policies, unmet_requirements
from farandole.spec import Data


def data(**privacy: Any) -> Data:
    features = {"age": {"kind": "numeric"}, "name": {"kind": "categorical"}}
    sources = {"rows": {"path": "rows.csv"}}
    return Data.model_validate({"sources": sources, "features": features, "privacy": privacy, "output": "/data/people"})


def test_dataset_without_the_policies_of_the_job_is_refused(dataset: tuple[Path, Manifest]) -> None:
    wanted = data(columns={"age": {"policy": "generalise", "width": 10}, "name": {"policy": "mask"}})
    with pytest.raises(DatasetError) as caught:
        require_policies(wanted, dataset[1])
    assert str(caught.value).splitlines() == [
        "data.privacy.columns.age: the job requires generalise (width 10.0), the dataset has no policy; training"
        " refuses /data/people: run `farandole prepare`",
        "data.privacy.columns.name: the job requires mask (keep_last 0), the dataset has no policy; training refuses"
        " /data/people: run `farandole prepare`",
    ]


def test_dataset_with_the_policies_of_the_job_is_accepted(dataset: tuple[Path, Manifest]) -> None:
    wanted = data(columns={"name": {"policy": "mask"}})
    columns = {name: policy.model_dump(mode="json") for name, policy in wanted.privacy.columns.items()}
    protected = dataset[1].model_copy(update={"privacy": {"columns": columns}})
    for job, manifest in ((wanted, protected), (data(), dataset[1])):
        assert unmet_requirements(job, manifest) == []
        require_policies(job, manifest)
