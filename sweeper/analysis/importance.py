"""`sweeper importance`: which parameters the objective depends on, by Optuna's evaluators."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.pruning.asha import value_at
from sweeper.samplers.importance import NOISE, Evaluator, importances
from sweeper.spec.model import SpecFile

TRIALS_A_PARAMETER: Final = 10


@dataclass(frozen=True)
class Importances:
    """How much each parameter determines the objective.

    Attributes:
        study: name of the study.
        evaluator: `ped-anova`, `mdi` or `fanova`.
        metric: the objective.
        epoch: where it was read, None: at the end.
        trials: how many were used.
        shares: parameter -> share, the largest first; they and `noise` sum to 1.
        noise: share of a meaningless parameter.
        left_out: parameters that only some trials have.
        warning: why not to trust this; empty if there is no reason.
    """

    study: str
    evaluator: Evaluator
    metric: str
    epoch: float | None
    trials: int
    shares: dict[str, float]
    noise: float
    left_out: tuple[str, ...]
    warning: str


def importances_of(study: str, spec: SpecFile, trials: Sequence[TrialRecord], evaluator: Evaluator) -> Importances:
    """The importance of each parameter that all trials have.

    If trials are stopped early, those that ran to their end are a selection of the best; so all are compared by their
    best value up to the first rung, the grace period. Otherwise those that ran to their end are compared by their last
    value.
    """
    early = spec.scheduler.name != "none" and not spec.variants
    epoch = float(spec.scheduler.grace_epochs) if early else None
    scored = [(trial, value) for trial in trials if (value := _value(trial, spec, epoch)) is not None]
    space = {path: dimension for path, dimension in spec.search_space.items() if not dimension.when}
    draw = random.Random(0)
    rows = [
        ({path: trial.params[path] for path in space if path in trial.params}, draw.random(), value)
        for trial, value in scored
    ]
    rows = [row for row in rows if len(row[0]) == len(space)]
    shares = importances(space, rows, evaluator, spec.objective.mode) if len(rows) > 1 else {}
    noise = shares.pop(NOISE, math.nan)
    left_out = tuple(path for path in spec.search_space if path not in space)
    warning = _warning(len(rows), space, shares, noise)
    return Importances(study, evaluator, spec.objective.metric, epoch, len(rows), shares, noise, left_out, warning)


def _value(trial: TrialRecord, spec: SpecFile, epoch: float | None) -> float | None:
    if epoch is None:
        return trial.value(spec.objective.metric) if trial.state is TrialState.COMPLETE else None
    return value_at(trial.curve(spec.objective.metric), epoch, spec.objective.mode)


def _warning(trials: int, space: Mapping[str, object], shares: Mapping[str, float], noise: float) -> str:
    wanted = TRIALS_A_PARAMETER * len(space)
    if not shares:
        return f"{trials} trials say nothing about importance; about {wanted} are needed for {len(space)} parameters"
    if trials < wanted:
        what = f"{trials} trials are few for {len(space)} parameters, about {wanted} are needed"
        return f"{what}: trust only what is far above {NOISE}"
    if max(shares.values()) <= noise:
        return f"no parameter scores more than {NOISE}: none was found to matter"
    return ""
