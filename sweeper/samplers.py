"""The sampler of each proposal. Beside the ledger the only module that imports optuna."""

from typing import Any

import optuna

from sweeper.search_space import CategoricalDimension, Dimension, FloatDimension, IntDimension, ParamValue
from sweeper.spec import SamplerConfig, SweepSpec


def _sampler(config: SamplerConfig, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of one proposal. Its arguments are written out, so an Optuna upgrade cannot change a study."""
    trial_seed = (seed * 1_000_003 + number) % 2**32
    match config.name:
        case "random":
            return optuna.samplers.RandomSampler(seed=trial_seed)
        case "tpe":
            return optuna.samplers.TPESampler(
                n_startup_trials=config.startup_trials,
                n_ei_candidates=24,
                multivariate=True,
                group=False,
                constant_liar=True,
                seed=trial_seed,
            )


class InOrderSampler(optuna.samplers.BaseSampler):
    """Trial after trial the next choice of a categorical parameter: each variant once."""

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        return {}

    def sample_relative(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        search_space: dict[str, optuna.distributions.BaseDistribution],
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Any:
        assert isinstance(param_distribution, optuna.distributions.CategoricalDistribution)
        return param_distribution.choices[trial.number % len(param_distribution.choices)]


def sampler_of(spec: SweepSpec, number: int) -> optuna.samplers.BaseSampler:
    return InOrderSampler() if spec.variants else _sampler(spec.sampler, spec.seed, number)


def suggest(handle: optuna.trial.Trial, path: str, dimension: Dimension) -> ParamValue:
    """The value of one dimension of a trial, from its study's sampler."""
    match dimension:
        case FloatDimension():
            return handle.suggest_float(path, dimension.low, dimension.high, log=dimension.log, step=dimension.step)
        case IntDimension():
            return handle.suggest_int(path, dimension.low, dimension.high, log=dimension.log, step=dimension.step)
        case CategoricalDimension():
            chosen = handle.suggest_categorical(path, dimension.choices)
            assert chosen is not None  # a Choice is never null
            return chosen
