"""The proposals: what each new trial tries.

A trial's parameters are drawn all at once, before one of them is written, from a sampler built afresh from (seed,
trial number, attempt) and the history. So a resumed study proposes what the unbroken one would have, a proposal that
was cut off is completed with the same values, and one that breaks a constraint is drawn again without a trace.
"""

from itertools import islice
from typing import Any, Final

import optuna

from sweeper.errors import UserError
from sweeper.samplers.distributions import distribution, suggest
from sweeper.samplers.history import as_seen
from sweeper.samplers.optuna_samplers import sampler_of
from sweeper.search_space.conditions import Params, exists, parents_first, point
from sweeper.search_space.constraints import all_hold
from sweeper.search_space.grid import grid_points
from sweeper.spec.resolve import SweepSpec

SAMPLER_DRAWS: Final = 8
"""Draws of the spec's sampler that may break a constraint, before random ones take over."""
MOST_DRAWS: Final = 2_000


def propose(handle: optuna.trial.Trial, spec: SweepSpec) -> Params:
    """Draw the parameters of a new trial, or of one whose proposal was cut off, and write them.

    Raises:
        UserError: no draw meets the constraints.
    """
    handle.study.sampler = _Drawn(spec)
    params: Params = {}
    for path in parents_first(spec.search_space):
        if exists(dimension := spec.search_space[path], params):
            params[path] = suggest(handle, path, dimension)
    return params


class _Drawn(optuna.samplers.BaseSampler):
    """Hands Optuna the parameters of a proposal, one by one as it asks."""

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec

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
        return _propose(self._spec, study, trial)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Any:
        raise AssertionError(f"{param_name} is in no proposal")


def _propose(spec: SweepSpec, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> Params:
    """The parameters of a trial: the first draw that meets the constraints.

    Raises:
        UserError: none of MOST_DRAWS draws does.
    """
    if spec.sampler.name == "grid":
        return next(islice(grid_points(spec.search_space, spec.constraints), trial.number, None))
    number = trial.number
    fixed = spec.enqueue[number] if number < len(spec.enqueue) else {}
    if spec.warm_start is not None or spec.sampler.name in ("gp", "nsga2"):
        study, trial = as_seen(spec, study, number)
    for attempt in range(MOST_DRAWS):
        seed = (spec.seed * 1_000_003 + number + attempt * 0x9E3779B1) % 2**32
        if spec.sampler.name == "qmc":
            params = point(spec.search_space, _sobol(spec, number, attempt), fixed)
        else:
            sampler = sampler_of(spec, seed) if attempt < SAMPLER_DRAWS else optuna.samplers.RandomSampler(seed=seed)
            params = _draw(spec, sampler, study, trial, fixed)
        if all_hold(spec.constraints, params):
            return params
    raise UserError(
        f"none of {MOST_DRAWS} draws for trial {number} meets the constraints",
        help="widen the ranges, or state the constraint as a smaller range where that is possible",
    )


def _sobol(spec: SweepSpec, number: int, attempt: int) -> dict[str, float]:
    """The point of a trial in the unit cube: its place in a scrambled Sobol sequence, each attempt's scrambled anew."""
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
