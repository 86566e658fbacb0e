"""CMA-ES (Hansen 2016, https://arxiv.org/abs/1604.00772) without stored state.

Optuna's sampler keeps its state as a pickle in the study, which we do not unpickle. Here the state is computed again
for each draw from the finished trials, so that a resumed study proposes what the uninterrupted one would have.
"""

import math
from typing import Any, Final

import cmaes
import numpy as np
import optuna

from sweeper.samplers.distributions import distribution
from sweeper.search_space.dimensions import CategoricalDimension, FloatDimension, IntDimension
from sweeper.search_space.unit import unit_of, value_at
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.validation.feasibility import MANY_PARAMETERS

STEP: Final = 0.25
"""Standard deviation of the first generation, as part of a parameter's range, where it has no prior."""
LEAST_STEP: Final = 1e-3
"""The same for a parameter with the narrowest prior."""
RESAMPLED: Final = 100
"""Draws for one that keeps to all bounds. Of many parameters hardly any draw does (of the first generation 0.95 to the
power of their number), so that what is outside is moved to the bounds at once."""


class CmaEsSampler(optuna.samplers.BaseSampler):
    """Draws the numeric parameters that every trial has together; all others at random.

    Trials are passed on in the order of their numbers, a population at a time, whichever state of the search each was
    drawn from: trials that run in parallel end in any order.
    """

    def __init__(self, spec: SweepSpec, seed: int) -> None:
        self._numeric = {
            path: dimension
            for path, dimension in spec.search_space.items()
            if not isinstance(dimension, CategoricalDimension)
            and not dimension.when
            and not (isinstance(dimension, FloatDimension) and dimension.values)
        }
        self._seed = seed
        self._random = optuna.samplers.RandomSampler(seed=seed)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        return {path: distribution(dimension) for path, dimension in self._numeric.items()}

    def sample_relative(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        search_space: dict[str, optuna.distributions.BaseDistribution],
    ) -> dict[str, Any]:
        starts = [_start(dimension) for dimension in self._numeric.values()]
        search = cmaes.CMA(
            mean=np.array([middle for middle, _ in starts]),
            sigma=STEP,
            cov=np.diag([(deviation / STEP) ** 2 for _, deviation in starts]),
            bounds=np.array([[0.0, 1.0]] * len(self._numeric)),
            seed=self._seed,
            n_max_resampling=RESAMPLED if len(self._numeric) <= MANY_PARAMETERS else 0,
        )
        told = self._told(study)
        for first in range(0, len(told) - search.population_size + 1, search.population_size):
            search.tell(told[first : first + search.population_size])
        drawn = search.ask()
        return {
            path: value_at(dimension, min(float(unit), math.nextafter(1.0, 0.0)))
            for (path, dimension), unit in zip(self._numeric.items(), drawn, strict=True)
        }

    def _told(self, study: optuna.Study) -> list[tuple[np.ndarray[Any, Any], float]]:
        """Place in the unit cube and value to be minimised of each trial that has one; the worst if it collapsed."""
        sign = -1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1.0
        told = []
        for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE]):
            if self._numeric.keys() <= trial.params.keys():
                place = np.array([unit_of(each, trial.params[path]) for path, each in self._numeric.items()])
                broken = any(violation > 0 for violation in trial.constraints.values())
                told.append((place, math.inf if broken else sign * float(trial.values[0])))
        return told

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def _start(dimension: FloatDimension | IntDimension) -> tuple[float, float]:
    """Where the search starts, in the unit interval, and the standard deviation there: those of a prior, otherwise the
    middle and STEP."""
    if (prior := dimension.prior) is None:
        return 0.5, STEP
    low, high = (math.log(end) if dimension.log else end for end in (dimension.low, dimension.high))
    spread = math.log(prior.spread) if dimension.log else prior.spread
    return unit_of(dimension, prior.center), min(max(spread / (high - low), LEAST_STEP), 1.0)
