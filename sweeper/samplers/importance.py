"""Optuna's evaluators of importance: what the objective of a study's trials depends on."""

import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final, Literal

import optuna

from sweeper.samplers.distributions import distribution
from sweeper.search_space.conditions import Params
from sweeper.search_space.dimensions import AnyDimension

NOISE: Final = "(noise)"
"""A meaningless parameter that is added to each trial: what scores no higher was not found to matter."""
Evaluator = Literal["ped-anova", "mdi", "fanova"]


def importances(
    space: Mapping[str, AnyDimension],
    rows: Sequence[tuple[Params, float, float]],
    evaluator: Evaluator,
    mode: Literal["min", "max"],
) -> dict[str, float]:
    """Parameter -> its share in deciding the objective, by one of Optuna's evaluators; the largest first.

    Args:
        space: the parameters, which every row has.
        rows: parameters, a number between 0 and 1 drawn as NOISE, and objective, of each trial; two or more.
        evaluator: `ped-anova` asks what the best tenth has in common; `mdi` and `fanova` grow random forests, the
            latter for minutes with 1,000 trials.
        mode: whether small or large objectives are good.
    """
    study = optuna.create_study(direction="minimize" if mode == "min" else "maximize")
    distributions = {path: distribution(dimension) for path, dimension in space.items()}
    distributions[NOISE] = optuna.distributions.FloatDistribution(0.0, 1.0)
    for params, noise, value in rows:
        known = {**params, NOISE: noise}
        study.add_trial(optuna.trial.create_trial(params=known, distributions=distributions, value=value))
    optunas = _import_importance(with_forests=evaluator != "ped-anova")
    judge: Any
    match evaluator:
        case "ped-anova":
            judge = optunas.PedAnovaImportanceEvaluator()
        case "mdi":
            judge = optunas.MeanDecreaseImpurityImportanceEvaluator(n_trees=64, max_depth=64, seed=0)
        case "fanova":
            judge = optunas.FanovaImportanceEvaluator(n_trees=64, max_depth=64, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the evaluators are experimental: requirements.lock pins them
        found = optunas.get_param_importances(study, evaluator=judge)
    return {path: float(share) for path, share in found.items()}


def _import_importance(*, with_forests: bool) -> Any:
    """`optuna.importance`, which imports scikit-learn if it is installed: over 2 s, only for the forests. When they are
    not needed it is made to find none, and is imported again when they are."""
    name = "optuna.importance"
    if with_forests or "sklearn" in sys.modules:
        if "sklearn" not in sys.modules:
            for loaded in [module for module in sys.modules if module.startswith(name)]:
                del sys.modules[loaded]
        return import_module(name)
    hidden: Any = None
    sys.modules["sklearn"] = hidden
    try:
        return import_module(name)
    finally:
        del sys.modules["sklearn"]
