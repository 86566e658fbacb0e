"""The proposals. Beside the ledger the only module that imports optuna.

A trial's parameters are drawn all at once, before one of them is written, from a sampler built afresh from (seed,
trial number, attempt) and the history. So a resumed study proposes what the unbroken one would have, a proposal that
was cut off is completed with the same values, and one that breaks a constraint is drawn again without a trace.
"""

import warnings
from itertools import islice
from typing import Any, Final

import optuna

from sweeper.conditions import Params, exists, grid_points, listed, parents_first
from sweeper.constraints import all_hold
from sweeper.errors import UserError
from sweeper.search_space import AnyDimension, CategoricalDimension, FloatDimension, IntDimension, ParamValue
from sweeper.spec import SamplerConfig, SweepSpec

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # our tests pin what we use

SAMPLER_DRAWS: Final = 25
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
            params[path] = _suggest(handle, path, dimension)
    return params


class _Drawn(optuna.samplers.BaseSampler):
    """Hands Optuna the parameters of a proposal, one by one as it asks."""

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        return {path: _distribution(dimension) for path, dimension in self._spec.search_space.items()}

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
    fixed = spec.enqueue[trial.number] if trial.number < len(spec.enqueue) else {}
    for attempt in range(MOST_DRAWS):
        seed = (spec.seed * 1_000_003 + trial.number + attempt * 0x9E3779B1) % 2**32
        sampler = _sampler(spec, seed) if attempt < SAMPLER_DRAWS else optuna.samplers.RandomSampler(seed=seed)
        params = _draw(spec, sampler, study, trial, fixed)
        if all_hold(spec.constraints, params):
            return params
    raise UserError(
        f"none of {MOST_DRAWS} draws for trial {trial.number} meets the constraints",
        help="widen the ranges, or state the constraint as a smaller range where that is possible",
    )


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
            params[path] = sampler.sample_independent(study, trial, path, _distribution(dimension))
    return params


def _sampler(spec: SweepSpec, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler of one draw. Its arguments are written out, so an Optuna upgrade cannot change a study."""
    config: SamplerConfig = spec.sampler
    conditional = any(dimension.when for dimension in spec.search_space.values())
    match config.name:
        case "tpe":
            return optuna.samplers.TPESampler(
                n_startup_trials=config.startup_trials,
                n_ei_candidates=24,
                multivariate=True,
                group=conditional,  # parameters that not all trials have are learned together with their kind
                constant_liar=True,
                seed=seed,
            )
        case "random":
            return optuna.samplers.RandomSampler(seed=seed)
        case "grid":
            raise AssertionError("a grid is not sampled")


def _suggest(handle: optuna.trial.Trial, path: str, dimension: AnyDimension) -> ParamValue:
    match dimension:
        case IntDimension():
            return handle.suggest_int(path, dimension.low, dimension.high, log=dimension.log, step=dimension.step)
        case FloatDimension() if not dimension.values:
            return handle.suggest_float(path, dimension.low, dimension.high, log=dimension.log, step=dimension.step)
        case _:
            choices = listed(dimension)
            assert choices is not None
            chosen = handle.suggest_categorical(path, choices)
            assert chosen is not None  # a Choice is never null
            return chosen


def _distribution(dimension: AnyDimension) -> optuna.distributions.BaseDistribution:
    match dimension:
        case CategoricalDimension():
            return optuna.distributions.CategoricalDistribution(dimension.choices)
        case FloatDimension() if dimension.values:
            return optuna.distributions.CategoricalDistribution(dimension.values)
        case FloatDimension():
            return optuna.distributions.FloatDistribution(
                dimension.low, dimension.high, log=dimension.log, step=dimension.step
            )
        case _:
            return optuna.distributions.IntDistribution(
                dimension.low, dimension.high, log=dimension.log, step=dimension.step
            )
