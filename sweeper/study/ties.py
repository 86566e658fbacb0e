"""Which trials are as good as the best one, as far as one run of each can tell. Pure."""

from collections.abc import Sequence

from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.noise.model import noise_of
from sweeper.spec.model import SpecFile
from sweeper.spec.objective import Objective
from sweeper.study.pareto import winner_of


def near_ties(trials: Sequence[TrialRecord], spec: SpecFile) -> list[TrialRecord]:
    """The trials of which one is the best with probability 0.95, by the study's noise model; empty if it is only one.

    In a study with too few trials for a model, the best one and those within its noise. That is the 95 % interval that
    the trainer reports beside the objective: `val/pa_mpjpe_low_mm` and `val/pa_mpjpe_high_mm` for `val/pa_mpjpe_mm`.
    Without one it is what the best trial's last evaluation changed, since a difference that one more epoch makes does
    not distinguish configurations.
    """
    objective = spec.objective
    best = winner_of(trials, objective)
    if best is None:
        return []
    if model := noise_of(spec, trials):
        could = [candidate.trial for candidate in model.could_be_best]
        return could if len(could) > 1 else []
    reach = noise(best, objective)
    value = best.value(objective.metric) or 0.0
    rivals = [
        (objective.loss(other), trial.number, trial)
        for trial in trials
        if trial.state is TrialState.COMPLETE and trial.id != best.id and dict(trial.params) != dict(best.params)
        if (other := trial.value(objective.metric)) is not None and abs(other - value) <= reach
    ]
    found = [best, *(trial for _, _, trial in sorted(rivals, key=lambda rival: rival[:2]))]
    return found if rivals else []


def noise(trial: TrialRecord, objective: Objective) -> float:
    """How far from a trial's value another one may be and count as equally good; 0 if unknown."""
    value = trial.value(objective.metric)
    if trial.last is None or value is None:
        return 0.0
    ends = [trial.value(name) for name in interval_metrics(objective)]
    worse = ends[1] if objective.mode == "min" else ends[0]
    if worse is not None:
        return abs(worse - value)
    before = trial.reports[-2].value(objective.metric) if len(trial.reports) > 1 else None
    return 0.0 if before is None else abs(value - before)


def interval_metrics(objective: Objective) -> tuple[str, str]:
    """Names of the ends of the objective's interval: `low` and `high` before its unit."""
    stem, unit = (
        (objective.metric.removesuffix("_mm"), "_mm") if objective.metric.endswith("_mm") else (objective.metric, "")
    )
    return f"{stem}_low{unit}", f"{stem}_high{unit}"
