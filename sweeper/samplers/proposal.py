"""The proposals: what each new trial tries.

A trial's parameters are drawn all at once, before one of them is written, from a sampler built afresh from (seed, trial
number, attempt) and the history. So a resumed study proposes what the uninterrupted one would have, a proposal that was
cut off is completed with the same values. A draw that breaks a constraint, repeats an earlier trial or is refused by
the trainer's config is made again without a trace, within a bound.
"""

from collections.abc import Collection, Hashable
from random import Random
from typing import Any, Final

import numpy as np
import optuna

from sweeper.errors import UserError
from sweeper.samplers.distributions import distribution, suggest
from sweeper.samplers.history import as_seen, has_not_learned
from sweeper.samplers.optuna_samplers import sampler_of
from sweeper.samplers.tried import TriedConfigurations
from sweeper.search_space.conditions import Params, exists, next_enqueued, parents_first, point
from sweeper.search_space.constraints import all_hold
from sweeper.search_space.dimensions import CategoricalDimension
from sweeper.search_space.unit import prior_at
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.validation.feasibility import UntriedPoints, next_grid_point, refusal

SAMPLER_DRAWS: Final = 8
"""Unusable draws of the spec's sampler before random ones take over."""
MOST_DRAWS: Final = 2_000
REDRAWS: Final = 200
"""Draws that repeat a trial or that the trainer's config refuses, before one of them is accepted anyway."""


def propose(handle: optuna.trial.Trial, spec: SweepSpec, tried: TriedConfigurations) -> Params:
    """Draw the parameters of a new trial, or of one whose proposal was interrupted, and write them.

    Args:
        handle: of the trial.
        spec: of the study.
        tried: the configurations of the study's trials.

    Raises:
        UserError: no draw meets the constraints.
    """
    handle.study.sampler = _Drawn(spec, tried)
    params: Params = {}
    for path in parents_first(spec.search_space):
        if exists(dimension := spec.search_space[path], params):
            params[path] = suggest(handle, path, dimension)
    return params


class _Drawn(optuna.samplers.BaseSampler):
    """Hands Optuna the parameters of a proposal, one by one as it asks."""

    def __init__(self, spec: SweepSpec, tried: TriedConfigurations) -> None:
        self._spec, self._tried = spec, tried

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        return {path: distribution(dimension) for path, dimension in self._spec.search_space.items()}

    def sample_relative(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        search_space: dict[str, optuna.distributions.BaseDistribution],
    ) -> dict[str, Any]:
        with np.errstate(all="ignore"):  # densities are meant to underflow far from all trials
            return _propose(self._spec, study, trial, self._tried)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Any:
        raise AssertionError(f"{param_name} is in no proposal")


def _propose(
    spec: SweepSpec, study: optuna.Study, trial: optuna.trial.FrozenTrial, tried: TriedConfigurations
) -> Params:
    """The parameters of a trial: the first draw that meets the constraints, is not those of an earlier trial and is
    accepted by the trainer's config; a point that is left, where draws do not find one but the space can be listed.

    Where there is none after all, the first that the config refused, which the study records as infeasible, or else
    the first that was a repetition.

    Raises:
        UserError: none of MOST_DRAWS draws meets the constraints.
    """
    number = trial.number
    if spec.sampler.name == "grid":
        return _next_of_grid(spec, tried.keys(before=number))
    may_repeat = spec.replicate_seed == "per_trial"  # each trial trains with its own seed
    fixed = _enqueued(spec, study, number)
    if spec.warm_start is not None or spec.sampler.name not in ("tpe", "random", "qmc"):
        study, trial = as_seen(spec, study, number)
    refused: list[Params] = []
    repeated: list[Params] = []
    for attempt in range(MOST_DRAWS):
        params = _drawn(spec, study, trial, number, fixed, attempt)
        if not all_hold(spec.constraints, params):
            continue
        if not may_repeat and tried.has(params, before=number):
            repeated.append(params)
        elif refusal(spec, params) is not None:
            refused.append(params)
        else:
            return params
        is_fixed = params.items() <= fixed.items()
        if is_fixed or len(refused) + len(repeated) >= REDRAWS:
            break
    if left := UntriedPoints(spec).draw(tried.keys(before=number), fixed, _seed(spec, number, 0)):
        return left
    if unusable := refused or repeated:
        return unusable[0]
    raise UserError(
        f"none of {MOST_DRAWS} draws for trial {number} meets the constraints",
        help="widen the ranges, or state the constraint as a smaller range where that is possible",
    )


def _next_of_grid(spec: SweepSpec, tried: Collection[Hashable]) -> Params:
    if (params := next_grid_point(spec, tried)) is None:
        raise UserError("every point of the grid was tried", help="add values to it in another study")
    return params


def _enqueued(spec: SweepSpec, study: optuna.Study, number: int) -> Params:
    """What is enqueued for the trial of this number."""
    if not spec.enqueue:
        return {}
    before = [frozen for frozen in study.get_trials(deepcopy=False) if frozen.number < number]
    own = [frozen for frozen in before if not frozen.user_attrs.keys() & {"retry_of", "enqueued", "repeat"}]
    return next_enqueued(spec.enqueue, [frozen.params for frozen in own])


def _seed(spec: SweepSpec, number: int, attempt: int) -> int:
    return (spec.seed * 1_000_003 + number + attempt * 0x9E3779B1) % 2**32


def _drawn(
    spec: SweepSpec, study: optuna.Study, trial: optuna.trial.FrozenTrial, number: int, fixed: Params, attempt: int
) -> Params:
    """One draw for the trial of this number in its study; parameters in `fixed`, enqueued for it, keep their values."""
    if spec.sampler.name == "qmc":
        return point(spec.search_space, _sobol(spec, number, attempt), fixed, prior_at)
    seed = _seed(spec, number, attempt)
    sampler = sampler_of(spec, seed) if attempt < SAMPLER_DRAWS else optuna.samplers.RandomSampler(seed=seed)
    if has_not_learned(spec, study, number):
        fixed = _from_priors(spec, seed) | fixed
    return _draw(spec, sampler, study, trial, fixed)


def _from_priors(spec: SweepSpec, seed: int) -> Params:
    """A draw from each prior that a parameter has."""
    random = Random(seed)
    units = {path: random.random() for path in spec.search_space}
    return {
        path: prior_at(dimension, units[path])
        for path, dimension in spec.search_space.items()
        if not isinstance(dimension, CategoricalDimension) and dimension.prior is not None
    }


def _sobol(spec: SweepSpec, number: int, attempt: int) -> dict[str, float]:
    """The point of a trial in the unit cube: its place in a scrambled Sobol sequence, scrambled again for each
    attempt."""
    from scipy.stats import qmc  # slow to import

    sequence = qmc.Sobol(len(spec.search_space), scramble=True, rng=spec.seed + attempt * 0x9E3779B1)
    if number:
        sequence.fast_forward(number)
    return dict(zip(spec.search_space, map(float, sequence.random(1)[0]), strict=True))


def _draw(
    spec: SweepSpec,
    sampler: optuna.samplers.BaseSampler,
    study: optuna.Study,
    trial: optuna.trial.FrozenTrial,
    fixed: Params,
) -> Params:
    together = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
    params: Params = {}
    for path in parents_first(spec.search_space):
        dimension = spec.search_space[path]
        if not exists(dimension, params):
            continue
        if path in fixed:
            params[path] = fixed[path]
        elif path in together:
            params[path] = together[path]
        else:
            params[path] = sampler.sample_independent(study, trial, path, distribution(dimension))
    return params
