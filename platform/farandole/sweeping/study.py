"""The draws of a sweep, by Optuna, in a SQLite file: a sweep that was killed resumes with everything it knew.

Each trial draws with its own seed, which follows from the sweep's seed and the number of trials before it. A resumed
sweep therefore draws what it would have drawn, and not its first trials again.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from farandole.spec import Dimension, Sweep
from farandole.storage import sqlite_uri
from farandole.sweeping.trial import Direction, State, Trial

_RESULT = "about"
_OPTUNA_STATES: dict[State, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


class Study:
    """All trials of a sweep.

    Args:
        directory: The sweep's directory.
        spec: The sweep.
        direction: `minimize` or `maximize`.
    """

    def __init__(self, directory: Path, spec: Sweep, direction: Direction) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._spec, self.direction = spec, direction
        self._distributions = {field: _distribution(dimension) for field, dimension in spec.space.items()}
        self._study = optuna.create_study(
            storage=sqlite_uri(directory / "study.db"),
            study_name="sweep",
            direction=direction,
            load_if_exists=True,
            pruner=_pruner(spec),
        )
        self._asked: dict[int, optuna.Trial] = {}
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if _RESULT in trial.user_attrs:  # killed after the result and before the state was written
                self._finish(trial.number, trial.user_attrs[_RESULT])
            else:
                self._put_back(trial.number)

    @property
    def trials(self) -> list[Trial]:
        """The trials that have ended, in order."""
        ended = (trial for trial in self._study.get_trials(deepcopy=False) if _RESULT in trial.user_attrs)
        return [_trial(trial, self._values(trial.params)) for trial in ended]

    @property
    def best(self) -> Trial | None:
        """The best of the complete trials; None: there is none."""
        done = [trial for trial in self.trials if trial.state == "complete" and trial.value is not None]
        sign = 1 if self.direction == "maximize" else -1
        return max(done, key=lambda trial: (sign * (trial.value or 0.0), -trial.number), default=None)

    def ask(self) -> tuple[int, dict[str, Any]] | None:
        """Start the next trial; return its number and values, or None where no trial is left."""
        known = self._study.get_trials(deepcopy=False)
        waiting = [trial for trial in known if trial.state == TrialState.WAITING]
        counted = [trial for trial in known if trial.state == TrialState.RUNNING or _RESULT in trial.user_attrs]
        if len(counted) >= self._spec.num_trials:
            return None
        if self._spec.sampler == "grid" and not waiting:
            tried = [_key(self._values(trial.params)) for trial in counted]
            point = next(point for point in self._spec.points if _key(point) not in tried)
            self._study.enqueue_trial({field: self._label(field, value) for field, value in point.items()})
        self._study.sampler = _sampler(self._spec, len(counted))
        trial = self._study.ask(self._distributions)
        self._asked[trial.number] = trial
        return trial.number, self._values(trial.params)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Record the value after an epoch; return whether the trial should be ended."""
        trial = self._asked[number]
        trial.report(value, epoch)
        return trial.should_prune()

    def record(self, trial: Trial) -> None:
        """Record a trial that has ended."""
        asked = self._asked.pop(trial.number)
        result = {key: value for key, value in trial.to_dict().items() if key not in ("number", "values")}
        asked.set_user_attr(_RESULT, result)
        self._finish(trial.number, result)

    def interrupt(self) -> None:
        """Put the running trials back; a resumed sweep trains them again."""
        for number in list(self._asked):
            self._put_back(number)
        self._asked.clear()

    def importances(self) -> dict[str, float]:
        """Return each field's share of the variance of the metric (fANOVA, Hutter et al. 2014), largest first.

        The result is empty where too few trials are complete.
        """
        done = [trial.value for trial in self.trials if trial.state == "complete"]
        if len(done) < 2 or len(set(done)) < 2:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self._spec.seed)
        return optuna.importance.get_param_importances(self._study, evaluator=evaluator)

    def _put_back(self, number: int) -> None:
        params = self._study.get_trials(deepcopy=False)[number].params
        self._study.tell(number, state=TrialState.FAIL)
        self._study.enqueue_trial(params)

    def _finish(self, number: int, result: dict[str, Any]) -> None:
        value = result["value"] if result["state"] == "complete" else None
        self._study.tell(number, value, state=_OPTUNA_STATES[result["state"]])

    def _values(self, params: dict[str, Any]) -> dict[str, Any]:
        return {
            field: json.loads(params[field]) if dimension.choices is not None else params[field]
            for field, dimension in self._spec.space.items()
            if field in params
        }

    def _label(self, field: str, value: Any) -> Any:
        return json.dumps(value) if self._spec.space[field].choices is not None else value


def _distribution(dimension: Dimension) -> BaseDistribution:
    """Return the distribution of a field; choices become JSON, since Optuna does not support lists."""
    if dimension.choices is not None:
        return CategoricalDistribution([json.dumps(choice) for choice in dimension.choices])
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.is_integer:
        return IntDistribution(int(dimension.low), int(dimension.high), dimension.log, int(dimension.step or 1))
    return FloatDistribution(float(dimension.low), float(dimension.high), dimension.log, dimension.step)


def _sampler(spec: Sweep, number: int) -> optuna.samplers.BaseSampler:
    seed = (spec.seed * 1_000_003 + number) % 2**31
    if spec.sampler != "tpe":
        return optuna.samplers.RandomSampler(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            n_startup_trials=spec.startup_trials, seed=seed, constant_liar=spec.parallel > 1
        )


def _pruner(spec: Sweep) -> optuna.pruners.BasePruner:
    if spec.pruner == "none":
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=spec.startup_trials)


def _trial(trial: FrozenTrial, values: dict[str, Any]) -> Trial:
    return Trial(number=trial.number, values=values, **trial.user_attrs[_RESULT])


def _key(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)
