from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from farandole.spec import Schedule
from farandole.training.optim.schedule import ReduceOnPlateau, learning_rate_factor

SCHEDULES = st.one_of(
    st.builds(Schedule, warmup=st.floats(0, 0.99)),
    st.builds(
        Schedule, name=st.sampled_from(["linear", "cosine"]), warmup=st.floats(0, 0.99), final=st.floats(0.001, 1)
    ),
)
FEW = hypothesis_settings(max_examples=60, deadline=None)


@given(SCHEDULES, st.integers(1, 500))
@FEW
def test_factor_is_positive_and_at_most_one(schedule: Schedule, total: int) -> None:
    factors = [learning_rate_factor(schedule, step, total) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)


@given(SCHEDULES, st.integers(2, 500))
@FEW
def test_factor_rises_during_warmup_only(schedule: Schedule, total: int) -> None:
    warmup = round(schedule.warmup * total)
    factors = [learning_rate_factor(schedule, step, total) for step in range(total)]
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    if warmup:
        assert factors[0] == pytest.approx(1 / warmup)
        assert factors[warmup - 1] == 1.0


@given(SCHEDULES, st.integers(1, 500))
@FEW
def test_factor_after_the_last_step_is_the_final_share(schedule: Schedule, total: int) -> None:
    final = 1.0 if schedule.name == "constant" else schedule.final
    if round(schedule.warmup * total) < total:
        assert learning_rate_factor(schedule, total, total) == pytest.approx(final, abs=1e-12)


def test_factors_of_a_short_training_are_as_expected() -> None:
    def factors(**fields: Any) -> list[float]:
        schedule = Schedule.model_validate(fields)
        return [learning_rate_factor(schedule, step, 8) for step in range(8)]

    assert factors() == [1.0] * 8
    assert factors(warmup=0.5) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert factors(name="linear") == pytest.approx([1 - step / 8 for step in range(8)])
    assert factors(name="linear", warmup=0.5, final=0.2) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 0.8, 0.6, 0.4])
    assert factors(name="cosine") == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8)])


def test_training_of_one_step_has_a_factor() -> None:
    for name in ("constant", "linear", "cosine"):
        for warmup in (0, 0.4, 0.9):
            assert learning_rate_factor(Schedule.model_validate({"name": name, "warmup": warmup}), 0, 1) == 1.0


def test_one_cycle_rises_from_one_25th_and_falls_to_the_final_share() -> None:
    schedule = Schedule(name="one_cycle", final=0.01)
    factors = [learning_rate_factor(schedule, step, 100) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 25)
    assert factors[30] == max(factors) == 1.0
    assert factors[:31] == sorted(factors[:31])
    assert factors[30:] == sorted(factors[30:], reverse=True)
    assert factors[100] == pytest.approx(0.01)
    assert learning_rate_factor(Schedule(name="one_cycle", warmup=0.5), 50, 100) == 1.0


def test_plateau_lowers_the_factor_when_the_metric_stalls() -> None:
    plateau = ReduceOnPlateau(Schedule(name="plateau", factor=0.5, patience=1, final=0.2), "rmse", "min")
    factors = []
    for value in (3.0, 2.0, 2.0, 2.5, 2.1, 2.2, 1.9, 2.0, 2.0, 2.0, 2.0):
        plateau.add_validation({"rmse": value})
        factors.append(plateau.factor)
    assert factors == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2]


def test_plateau_resumes_from_its_state() -> None:
    schedule = Schedule(name="plateau", factor=0.5, patience=1)
    first, second = ReduceOnPlateau(schedule, "accuracy", "max"), ReduceOnPlateau(schedule, "accuracy", "max")
    for value in (0.5, 0.4):
        first.add_validation({"accuracy": value})
    second.load_state_dict(first.state_dict())
    for plateau in (first, second):
        plateau.add_validation({})  # a metric that is not measured decides nothing
        assert plateau.factor == 1.0
        plateau.add_validation({"accuracy": math.nan})  # this one is not an improvement
    assert first.factor == second.factor == 0.5
    assert first.state_dict() == second.state_dict()
