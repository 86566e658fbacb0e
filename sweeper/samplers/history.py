"""What a sampler learns from: the trials of a study so far, and those of its warm start."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import optuna

from sweeper.samplers.distributions import distribution
from sweeper.search_space.conditions import Params, contains, exists, parents_first
from sweeper.spec.resolve import SweepSpec

WARM_START: Final = "warm_start"
"""Attribute of a study: what it learned from an earlier one."""


def finite_values(objective: float | Sequence[float | None] | None) -> list[float] | None:
    """The value of each objective, from one number or a list; None if one is missing or not finite."""
    values = [objective] if objective is None or isinstance(objective, int | float) else objective
    finite = [float(value) for value in values if value is not None and math.isfinite(value)]
    return finite if len(finite) == len(values) else None


def as_seen(spec: SweepSpec, study: optuna.Study, number: int) -> tuple[optuna.Study, optuna.trial.FrozenTrial]:
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


def has_not_learned(spec: SweepSpec, study: optuna.Study, number: int) -> bool:
    """Whether the sampler draws this trial independently of others, from the priors if there are any."""
    states = optuna.trial.TrialState
    match spec.sampler.name:
        case "random":
            return True
        case "tpe":
            learned = study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))
            return len(learned) < spec.sampler.startup_trials
        case "gp":
            return len(study.get_trials(deepcopy=False, states=(states.COMPLETE,))) < spec.sampler.startup_trials
        case "nsga2":
            return number < spec.sampler.population
        case _:
            return False


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
