"""The proposals: what each new trial tries.

A trial's parameters are drawn all at once, before one of them is written, from a sampler built afresh from (seed,
trial number, attempt) and the history. So a resumed study proposes what the unbroken one would have, a proposal that
was cut off is completed with the same values, and one that breaks a constraint is drawn again without a trace.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

import optuna

from sweeper.errors import UserError
from sweeper.search_space.conditions import Params, contains, exists, grid_points, listed, parents_first, point
from sweeper.search_space.constraints import all_hold
from sweeper.search_space.dimensions import AnyDimension, CategoricalDimension, FloatDimension, IntDimension, ParamValue
from sweeper.spec.load import SamplerConfig, SweepSpec

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # our tests pin what we use

SAMPLER_DRAWS: Final = 8
"""Draws of the spec's sampler that may break a constraint, before random ones take over."""
MOST_DRAWS: Final = 2_000
WARM_START: Final = "warm_start"
"""Attribute of a study: what it learned from an earlier one."""


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


def running_trial(spec: SweepSpec, params: Params, attributes: dict[str, Any]) -> optuna.trial.FrozenTrial:
    """A trial of these parameters that has just been started; adding it to a study is one write."""
    distributions = {path: distribution(spec.search_space[path]) for path in params}
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING, params=params, distributions=distributions, user_attrs=attributes
    )


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
        study, trial = _as_seen(spec, study, number)
    for attempt in range(MOST_DRAWS):
        seed = (spec.seed * 1_000_003 + number + attempt * 0x9E3779B1) % 2**32
        if spec.sampler.name == "qmc":
            params = point(spec.search_space, _sobol(spec, number, attempt), fixed)
        else:
            sampler = _sampler(spec, seed) if attempt < SAMPLER_DRAWS else optuna.samplers.RandomSampler(seed=seed)
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


def _sampler(spec: SweepSpec, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler of one draw. Its arguments are written out, so an Optuna upgrade cannot change a study."""
    config: SamplerConfig = spec.sampler
    differing = spec.warm_start is not None or any(dimension.when for dimension in spec.search_space.values())
    match config.name:
        case "tpe":
            return optuna.samplers.TPESampler(
                n_startup_trials=config.startup_trials,
                n_ei_candidates=24,
                multivariate=True,
                group=differing,  # parameters that not all trials have are learned together with their kind
                constant_liar=True,
                seed=seed,
            )
        case "gp":
            return optuna.samplers.GPSampler(
                n_startup_trials=config.startup_trials,
                independent_sampler=optuna.samplers.RandomSampler(seed=seed),
                deterministic_objective=False,
                warn_independent_sampling=False,
                seed=seed,
            )
        case "nsga2":
            return _Nsga2(
                population_size=config.population,
                mutation_prob=None,  # 1 / number of parameters
                crossover=optuna.samplers.nsgaii.UniformCrossover(swapping_prob=0.5),
                crossover_prob=0.9,
                swapping_prob=0.5,
                seed=seed,
            )
        case _:
            return optuna.samplers.RandomSampler(seed=seed)


class _Nsga2(optuna.samplers.NSGAIISampler):
    """NSGA-II whose generations follow from the trials' numbers, so that it needs no state of its own."""

    def get_trial_generation(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> int:
        assert self.population_size is not None
        return trial.number // self.population_size

    def get_population(self, study: optuna.Study, generation: int) -> list[optuna.trial.FrozenTrial]:
        finished = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
        return [trial for trial in finished if self.get_trial_generation(study, trial) == generation]

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[optuna.trial.FrozenTrial]:
        parents = super().get_parent_population(study, generation)
        return parents if len(parents) > 1 else []  # one has nobody to mate with


def finite_values(objective: float | Sequence[float | None] | None) -> list[float] | None:
    """The value of each objective, from one number or a list; None where one is missing or not finite."""
    values = [objective] if objective is None or isinstance(objective, int | float) else objective
    finite = [float(value) for value in values if value is not None and math.isfinite(value)]
    return finite if len(finite) == len(values) else None


def _as_seen(spec: SweepSpec, study: optuna.Study, number: int) -> tuple[optuna.Study, optuna.trial.FrozenTrial]:
    """A study in memory with all a sampler learns from: the trials of the warm start, those of this study before the
    proposed one, and the proposed one."""
    seen = optuna.create_study(directions=study.directions)
    for entry in study.user_attrs.get(WARM_START, []) if spec.warm_start is not None else []:
        if warm := _warm_trial(spec, entry):
            seen.add_trial(warm)
    for frozen in study.get_trials(deepcopy=False):
        if frozen.number != number:
            seen.add_trial(frozen if spec.sampler.name == "tpe" else _with_values(frozen))
    seen.ask()
    return seen, seen.get_trials(deepcopy=False)[-1]


def _with_values(frozen: optuna.trial.FrozenTrial) -> optuna.trial.FrozenTrial:
    """A trial for the samplers that learn from complete trials alone: one that was stopped for its rank or by a guard
    is complete with the values it reached, the latter infeasible."""
    states = optuna.trial.TrialState
    ending = frozen.user_attrs.get("ending")
    if ending is None or ending["state"] not in ("COMPLETE", "PRUNED", "COLLAPSED"):
        return frozen
    values = finite_values(ending["objective"])
    return optuna.trial.create_trial(
        state=states.FAIL if values is None else states.COMPLETE,
        values=values,
        params=frozen.params,
        distributions=frozen.distributions,
        constraints={"collapsed": 1.0 if ending["state"] == "COLLAPSED" else 0.0},
    )


def _warm_trial(spec: SweepSpec, entry: Mapping[str, Any]) -> optuna.trial.FrozenTrial | None:
    """A trial of the earlier study with the parameters that this study could have tried too; None without any."""
    states = optuna.trial.TrialState
    params: Params = {}
    for path in parents_first(spec.search_space):
        dimension = spec.search_space[path]
        if path in entry["params"] and contains(dimension, entry["params"][path]) and exists(dimension, params):
            params[path] = entry["params"][path]
    if not params:
        return None
    complete = entry["state"] == "COMPLETE" or spec.sampler.name != "tpe"
    return optuna.trial.create_trial(
        state=states.COMPLETE if complete else states.PRUNED,
        values=entry["values"] if complete else None,
        params=params,
        distributions={path: distribution(spec.search_space[path]) for path in params},
        intermediate_values={entry["step"]: entry["values"][0]},
        constraints={"collapsed": 1.0 if entry["state"] == "COLLAPSED" else 0.0},
    )


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


def distribution(dimension: AnyDimension) -> optuna.distributions.BaseDistribution:
    """A dimension as Optuna knows it."""
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
