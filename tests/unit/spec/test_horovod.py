from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from farandole.spec import Horovod, horovod_variables


def test_unset_options_are_left_to_horovod() -> None:
    assert horovod_variables(Horovod()) == {}


def test_each_option_becomes_its_horovod_variable() -> None:
    spec = Horovod(
        cycle_time_ms=0.5,
        idle_cycle_time_ms=50,
        fusion_threshold_mib=2,
        cache_capacity=0,
        hierarchical_allreduce=True,
        hierarchical_allgather=True,
    )
    assert horovod_variables(spec) == {
        "HOROVOD_CYCLE_TIME": "0.5",
        "HOROVOD_IDLE_CYCLE_TIME": "50",
        "HOROVOD_FUSION_THRESHOLD": "2097152",
        "HOROVOD_CACHE_CAPACITY": "0",
        "HOROVOD_HIERARCHICAL_ALLREDUCE": "1",
        "HOROVOD_HIERARCHICAL_ALLGATHER": "1",
    }
    assert horovod_variables(Horovod(), timeline=True) == {"HOROVOD_TIMELINE": "DYNAMIC"}
    assert horovod_variables(Horovod(autotune=True)) == {"HOROVOD_AUTOTUNE": "1"}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"num_groups": 2, "bucket_mib": 5}, "both set how gradients are grouped"),
        ({"autotune": True, "cycle_time_ms": 1}, "cycle_time_ms has no effect with autotune"),
        ({"adasum": True, "predivide_factor": 2}, "predivide_factor has no effect on adasum"),
        ({"cycle_time_ms": 0}, "greater than 0"),
    ],
)
def test_options_without_effect_are_rejected(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Horovod.model_validate(fields)
