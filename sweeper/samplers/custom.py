"""A sampler that a spec names by its class, `package.module:Class`: any with Optuna's interface.

It is rebuilt for each draw, with a seed for that draw if it takes one, and sees the study's history as a study in
memory. So a resumed study proposes what the uninterrupted one would have, if the sampler is seeded; what it stores with
its trials is not there the next time. Both are reported before a study starts.
"""

import inspect
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import optuna

from sweeper.errors import UserError
from sweeper.samplers.distributions import distribution
from sweeper.search_space.conditions import Params, point
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.sections import SamplerConfig

WHERE: Final = "sampler.name"
RELATIVE: Final = ":relative_params"
"""In the key under which Optuna's samplers note the parameters of a trial that is being drawn; the history has them."""


def custom_sampler(config: SamplerConfig, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler, with the seed if it takes one.

    Raises:
        UserError: it cannot be imported, is not a sampler, or does not take its arguments.
    """
    kind = _load(config.name)
    arguments = dict(config.arguments)
    if _takes_seed(kind):
        arguments.setdefault("seed", seed)
    try:
        return kind(**arguments)
    except Exception as error:  # a user's class may raise anything
        what = f"the sampler `{config.name}` cannot be made: {type(error).__name__}: {error}"
        raise UserError(what, WHERE, "its arguments are the other keys of `sampler`") from error


def check_sampler(spec: SweepSpec) -> list[str]:
    """Try a sampler that is named by its class on a study of three made-up trials; does nothing for the others.

    Returns:
        What the study cannot promise with it, a sentence each.

    Raises:
        UserError: it cannot be made, or cannot draw.
    """
    if not spec.sampler.is_custom:
        return []
    study = optuna.create_study(directions=["minimize" if one.mode == "min" else "maximize" for one in spec.objectives])
    for index in range(3):
        study.add_trial(_finished(spec, point(spec.search_space, dict.fromkeys(spec.search_space, index / 3), {})))
    study.ask()
    trial = study.get_trials(deepcopy=False)[-1]
    sampler = custom_sampler(spec.sampler, 0)
    try:
        drawn = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
        for path, dimension in spec.search_space.items():
            if path not in drawn:
                sampler.sample_independent(study, trial, path, distribution(dimension))
    except Exception as error:
        what = f"the sampler `{spec.sampler.name}` cannot draw: {type(error).__name__}: {error}"
        raise UserError(
            what, WHERE, "it must draw from finished trials alone: no parameter is set before all are drawn"
        ) from error
    notes = []
    if not _takes_seed(_load(spec.sampler.name)) or "seed" in spec.sampler.arguments:
        why = "has a fixed seed" if "seed" in spec.sampler.arguments else "takes no `seed`"
        other = "a resumed study may propose something other than an uninterrupted one would have"
        notes.append(f"the sampler {why}: {other}")
    storage = study._storage
    kept = [*storage.get_trial_system_attrs(trial._trial_id), *storage.get_study_system_attrs(study._study_id)]
    kept = [key for key in kept if RELATIVE not in key]
    if kept:
        notes.append(f"the sampler stores {', '.join(kept)} to remember: that is lost, so it may search less well")
    return notes


def _finished(spec: SweepSpec, params: Params) -> optuna.trial.FrozenTrial:
    distributions = {path: distribution(spec.search_space[path]) for path in params}
    values = [float(len(params))] * len(spec.objectives)
    return optuna.trial.create_trial(params=params, distributions=distributions, values=values)


def _takes_seed(kind: type[Any]) -> bool:
    return "seed" in inspect.signature(kind).parameters


def _load(name: str) -> type[optuna.samplers.BaseSampler]:
    module_name, _, class_name = name.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        kind = getattr(import_module(module_name), class_name, None)
    except Exception as error:  # a user's module may raise anything
        what = f"cannot import `{module_name}`: {type(error).__name__}: {error}"
        raise UserError(what, WHERE, "is it installed, or is its folder on PYTHONPATH?") from error
    if not (isinstance(kind, type) and issubclass(kind, optuna.samplers.BaseSampler)):
        what = f"`{name}` is not a subclass of optuna.samplers.BaseSampler"
        raise UserError(what, WHERE, "write one such as `optuna.samplers:TPESampler`")
    return kind
