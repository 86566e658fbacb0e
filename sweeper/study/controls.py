"""What the controls say about the candidates: reference lines, and whether any trial has learned anything. Pure.

Knows controls only by their names: `oracle` is what nothing can beat, `constant_pose` and `shuffled_labels` are what
every trial must beat. A study that fails this says nothing about its search space.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.spec.objective import Objective
from sweeper.spec.sections import SchedulerConfig
from sweeper.study.pareto import best_of

ALPHA: Final = 0.05
"""Chance of calling it skill when there is none, over all trials of the study together."""
TRAINED: Final = ("shuffled_labels",)
"""The controls that train; the others are evaluated once."""
CONTROL_EPOCHS: Final = 2.0
"""Epochs of a control that trains, if no scheduler has a grace period."""
BLAME: Final = "suspect data or metric, not the loss weights"
SHORT_STEPS: Final = 300
"""Optimizer steps below which sound runs may still be at the mean pose: recorded curves leave it at steps 50 to 280."""


@dataclass(frozen=True)
class FinalWord:
    """The last sentences of a study; `no_skill` if they say that its trials have learned nothing."""

    lines: tuple[str, ...]
    no_skill: bool


def control_epochs(scheduler: SchedulerConfig) -> float:
    """How long a control trains: until the candidates are first ranked."""
    return CONTROL_EPOCHS if scheduler.name == "none" else scheduler.grace_epochs


def control_values(controls: Sequence[TrialRecord], objective: Objective) -> dict[str, float]:
    """Name -> objective of each control that has finished."""
    return {
        control.control: value
        for control in controls
        if control.control and control.state is TrialState.COMPLETE
        if (value := control.value(objective.metric)) is not None
    }


def spoken(control: str) -> str:
    """The name of a control in a sentence."""
    return control.replace("_", " ")


def final_word(trials: Sequence[TrialRecord], controls: Sequence[TrialRecord], objective: Objective) -> FinalWord:
    """Compare the best candidate with the controls.

    The best is the best of those that ran to their end, or if none did, of all. Against the constant pose the trainer's
    own p-value decides, the objective's sibling `skill_p` (`val/skill_p`), times the number of trials it is the best of
    (Bonferroni): it is skill only below 0.05. Without such a metric, and against shuffled labels, the values decide.
    While a trial is running nothing is decided.

    Args:
        trials: the candidates.
        controls: the controls; without any, nothing is said.
        objective: what they are judged by.
    """
    if not controls:
        return FinalWord((), no_skill=False)
    again = {control.retry_of for control in controls}
    failed = tuple(
        f"control {spoken(control.control or '')} {control.state}: {control.reason}"
        for control in controls
        if control.state.is_finished and control.state is not TrialState.COMPLETE and control.id not in again
    )
    values = control_values(controls, objective)
    scored = [trial for trial in trials if trial.value(objective.metric) is not None]
    best = best_of([trial for trial in scored if trial.state is TrialState.COMPLETE] or scored, objective)
    if best is None or not all(trial.state.is_finished for trial in (*trials, *controls)):
        return FinalWord((*_reference_line(None, values, objective), *failed), no_skill=False)
    names = {control.control for control in controls}
    problems = (
        _against_oracle(best, values, objective),
        _against_constant(best, len(scored), values, objective) if "constant_pose" in names else None,
        _against_shuffled(best, values, objective),
    )
    found = tuple(problem for problem in problems if problem)
    return FinalWord((*_reference_line(best, values, objective), *failed, *found), no_skill=bool(found))


def _reference_line(best: TrialRecord | None, values: dict[str, float], objective: Objective) -> tuple[str, ...]:
    value = best.value(objective.metric) if best else None
    parts = [f"best trial {objective.format(value)}"] if value is not None else []
    rulers = [name for name in ("constant_pose", "shuffled_labels") if name in values]
    parts += [f"{spoken(name)} {objective.number(values[name])}" for name in rulers]
    return ("; ".join(parts),) if rulers else ()


def _against_oracle(best: TrialRecord, values: dict[str, float], objective: Objective) -> str | None:
    """Nothing may be as good as the truth; a metric for which something is cannot distinguish trials."""
    if "oracle" not in values:
        return None
    rivals = {spoken(name): value for name, value in values.items() if name != "oracle"}
    rivals["best trial"] = best.value(objective.metric) or 0.0
    for name, value in rivals.items():
        if not objective.is_better(values["oracle"], value):
            numbers = f"{objective.number(values['oracle'])} against {objective.number(value)}"
            return f"THE ORACLE IS NO BETTER THAN {name.upper()} ({numbers}): suspect the metric"
    return None


def _against_constant(best: TrialRecord, tried: int, values: dict[str, float], objective: Objective) -> str | None:
    p = best.metrics.get(skill_p_metric(objective), math.nan)
    if math.isfinite(p):
        corrected = min(1.0, tried * p)
        if corrected < ALPHA:
            return None
        among = f", corrected for the best of {tried}" if tried > 1 else ""
        return f"NO TRIAL BEATS THE CONSTANT POSE (p = {corrected:.2g}{among}; below {ALPHA:g} counts): {_cause(best)}"
    value = best.value(objective.metric)
    if value is None or "constant_pose" not in values or objective.is_better(value, values["constant_pose"]):
        return None
    return f"NO TRIAL BEATS THE CONSTANT POSE ({_pair(value, values['constant_pose'], objective)}): {_cause(best)}"


def _against_shuffled(best: TrialRecord, values: dict[str, float], objective: Objective) -> str | None:
    value = best.value(objective.metric)
    if value is None or "shuffled_labels" not in values or objective.is_better(value, values["shuffled_labels"]):
        return None
    return f"NO TRIAL BEATS SHUFFLED LABELS ({_pair(value, values['shuffled_labels'], objective)}): {_cause(best)}"


def _cause(best: TrialRecord) -> str:
    """The likeliest cause, by how long the best candidate has trained, if its trainer reports that."""
    steps = best.metrics.get("train/optimizer_steps", math.inf)
    if steps < SHORT_STEPS:
        return f"only {steps:.0f} optimizer steps, so suspect too little data or training first, then data or metric"
    return BLAME


def skill_p_metric(objective: Objective) -> str:
    """Name of the p-value of skill: beside the objective, `val/skill_p` for `val/pa_mpjpe_mm`."""
    prefix, slash, _ = objective.metric.rpartition("/")
    return f"{prefix}{slash}skill_p"


def _pair(value: float, other: float, objective: Objective) -> str:
    return f"{objective.number(value)} against {objective.number(other)}"
