"""Dimensions as Optuna knows them."""

from typing import Any

import optuna

from sweeper.search_space.conditions import Params
from sweeper.search_space.dimensions import AnyDimension, CategoricalDimension, FloatDimension, IntDimension, ParamValue
from sweeper.search_space.unit import listed
from sweeper.spec.resolve import SweepSpec


def running_trial(spec: SweepSpec, params: Params, attributes: dict[str, Any]) -> optuna.trial.FrozenTrial:
    """A trial of these parameters that has just been started; adding it to a study is one write."""
    distributions = {path: distribution(spec.search_space[path]) for path in params}
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING, params=params, distributions=distributions, user_attrs=attributes
    )


def suggest(handle: optuna.trial.Trial, path: str, dimension: AnyDimension) -> ParamValue:
    """Have a trial draw the parameter of a dimension."""
    match dimension:
        case IntDimension():
            return handle.suggest_int(path, dimension.low, dimension.high, log=dimension.log, step=dimension.step)
        case FloatDimension() if not dimension.values:
            return handle.suggest_float(path, dimension.low, dimension.high, log=dimension.log, step=dimension.step)
        case _:
            choices = listed(dimension)
            assert choices is not None
            return handle.suggest_categorical(path, choices)


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
