"""Runs that repeat each variant over the same seeds, as statistics needs them. Pure; imports scipy, so import it late.

A run counts towards a mean only if it ran to its end: if a guard, a rank or an error stopped it, its last value comes
from a shorter training. Such runs are counted by how they ended, and never left out silently. A mean over the runs that
did not collapse flatters a variant that often does, so it is accompanied by one in which those count as the constant
pose.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import StatisticsError, correlation
from typing import Final

from sweeper.analysis.statistics import (
    ALPHA,
    FEWEST,
    Difference,
    Estimate,
    estimate,
    holm,
    paired_difference,
    wilson_interval,
)
from sweeper.entrypoint.offers import DEFAULT_OFFERS
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.search_space.dimensions import ParamValue
from sweeper.spec.model import SEED, VARIANT, SpecFile
from sweeper.spec.objective import Objective
from sweeper.spec.sections import CollapseGuard
from sweeper.study.controls import control_values, skill_p_metric

TOO_SMALL: Final = "n is too small to say"


@dataclass(frozen=True)
class VariantRuns:
    """The results of one variant's runs.

    Attributes:
        name: of the variant.
        values: seed -> objective of each run that ran to its end.
        runs: all that have been started.
        collapsed: those that ended with one pose for every image, whether a guard stopped them or not.
        failed: those that ended with an error, and were not tried again.
        stopped: those ended early for their rank or by the user.
        running: those that have not ended.
        collapsed_values: seed -> error of the constant pose, of each run that a guard stopped for its collapse; empty
            where that error is not known.
    """

    name: str
    values: Mapping[ParamValue, float]
    runs: int
    collapsed: int
    failed: int
    stopped: int
    running: int
    collapsed_values: Mapping[ParamValue, float] = field(default_factory=dict)

    @property
    def estimate(self) -> Estimate:
        """Mean and interval of the runs that ran to their end."""
        return estimate(list(self.values.values()))

    @property
    def losses_text(self) -> str:
        """The runs that are not part of the mean or have collapsed, `1 collapsed (4-62 %), 2 failed`; empty if all is
        well."""
        counts = {name: getattr(self, name) for name in ("failed", "stopped", "running")}
        parts = [f"{count} {name}" for name, count in counts.items() if count]
        if self.collapsed:
            parts.insert(0, f"{self.collapsed} collapsed ({self._collapsed_share})")
        return ", ".join(parts)

    @property
    def collapses_text(self) -> str:
        """`2 of 5 (12-77 %)`: how many of the runs that have ended collapsed, and the 95 % interval of the share."""
        ended = self.runs - self.running
        return f"{self.collapsed} of {ended} ({self._collapsed_share})" if ended else "-"

    @property
    def _collapsed_share(self) -> str:
        low, high = wilson_interval(self.collapsed, self.runs - self.running)
        return f"{100 * low:.0f}-{100 * high:.0f} %"


@dataclass(frozen=True)
class Comparison:
    """Two variants over the seeds that both have, first minus second.

    Attributes:
        first: name of a variant.
        second: name of the other.
        difference: in the unit of the objective.
        p_holm: its p, corrected for all comparisons made beside it; NaN where there is none.
        with_collapses: mean difference and interval if runs that were stopped for their collapse count as the constant
            pose; None where that adds none.
        correlation: of the two over their shared seeds; NaN of fewer than three.
    """

    first: str
    second: str
    difference: Difference
    p_holm: float
    with_collapses: Estimate | None = None
    correlation: float = math.nan

    @property
    def is_told_apart(self) -> bool:
        """Whether they differ by more than chance."""
        return self.p_holm < ALPHA


def constant_error(trials: Sequence[TrialRecord], objective: Objective) -> float | None:
    """The constant pose's objective: that of the control, which may be among `trials`; otherwise as a trial's skill
    implies (skill = 1 - error / the constant pose's)."""
    control = control_values(trials, objective).get("constant_pose")
    if control is not None:
        return control
    beside = skill_p_metric(objective).removesuffix("_p")
    for trial in trials:
        value, skill = trial.value(objective.metric), trial.metrics.get(beside)
        if value is not None and skill is not None and skill < 1:
            return value / (1 - skill)
    return None


def runs_of_variants(spec: SpecFile, trials: Sequence[TrialRecord], constant: float | None = None) -> list[VariantRuns]:
    """The runs of each variant of a spec, in its order; one that has not been started has none.

    Args:
        spec: of the study.
        trials: its candidates.
        constant: as `constant_error`; None: unknown.
    """
    again = {trial.retry_of for trial in trials}
    counted = [trial for trial in trials if not (trial.state is TrialState.FAILED and trial.id in again)]
    guard = next((guard for guard in spec.guards if isinstance(guard, CollapseGuard)), CollapseGuard())
    found = [_runs_of(name, counted, spec.objective, guard) for name in spec.variants]
    if constant is None:
        return found
    return [replace(each, collapsed_values=_collapsed_values(each.name, counted, constant)) for each in found]


def _collapsed_values(name: str, trials: Sequence[TrialRecord], constant: float) -> dict[ParamValue, float]:
    own = [trial for trial in trials if trial.params.get(VARIANT) == name]
    return {trial.params.get(SEED, 0): constant for trial in own if trial.state is TrialState.COLLAPSED}


def _runs_of(name: str, trials: Sequence[TrialRecord], objective: Objective, guard: CollapseGuard) -> VariantRuns:
    own = [trial for trial in trials if trial.params.get(VARIANT) == name]
    values = {
        trial.params.get(SEED, 0): value
        for trial in own
        if trial.state is TrialState.COMPLETE and (value := trial.value(objective.metric)) is not None
    }
    return VariantRuns(
        name,
        values,
        runs=len(own),
        collapsed=sum(has_collapsed(trial, guard) for trial in own),
        failed=sum(trial.state is TrialState.FAILED for trial in own),
        stopped=sum(trial.state in (TrialState.PRUNED, TrialState.STOPPED) for trial in own),
        running=sum(not trial.state.is_finished for trial in own),
    )


def has_collapsed(trial: TrialRecord, guard: CollapseGuard) -> bool:
    """Whether a guard stopped the trial, or it ended below both thresholds of the collapse guard."""
    if trial.state is not TrialState.COMPLETE:
        return trial.state is TrialState.COLLAPSED
    ratio = trial.metrics.get(DEFAULT_OFFERS.variance_ratio, math.inf)
    r2 = trial.metrics.get(DEFAULT_OFFERS.explained, math.inf)
    return ratio < guard.var_ratio_below and r2 < guard.r2_below


def compare(pairs: Sequence[tuple[VariantRuns, VariantRuns]]) -> list[Comparison]:
    """Compare variants pair by pair over shared seeds; the p-values are corrected for all of them together (Holm)."""
    found = [_compared(first, second) for first, second in pairs]
    corrected = holm([each.difference.p for each in found])
    return [replace(each, p_holm=p) for each, p in zip(found, corrected, strict=True)]


def _compared(first: VariantRuns, second: VariantRuns) -> Comparison:
    """Two variants over the seeds that both have, without a correction."""
    shared = [seed for seed in first.values if seed in second.values]
    one, other = ([runs.values[seed] for seed in shared] for runs in (first, second))
    with_collapses = None
    if first.collapsed_values or second.collapsed_values:
        of_first, of_second = ({**runs.values, **runs.collapsed_values} for runs in (first, second))
        with_collapses = estimate([of_first[seed] - of_second[seed] for seed in of_first if seed in of_second])
    return Comparison(
        first.name, second.name, paired_difference(one, other), math.nan, with_collapses, _correlation(one, other)
    )


def _correlation(one: Sequence[float], other: Sequence[float]) -> float:
    try:
        return correlation(one, other) if len(one) >= FEWEST else math.nan
    except StatisticsError:  # one of them never varies
        return math.nan


def better(comparison: Comparison, objective: Objective) -> tuple[str, str]:
    """The names of a comparison, the better one first."""
    first_is_better = objective.is_better(comparison.difference.estimate.mean, 0.0)
    names = (comparison.first, comparison.second)
    return names if first_is_better else (names[1], names[0])


def verdict_of(comparison: Comparison, objective: Objective) -> str:
    """A comparison in one sentence."""
    best, other = better(comparison, objective)
    found, counted = comparison.difference.estimate, _counted_text(comparison, objective)
    if found.n == 0:
        return f"{best} and {other} have no seed in common for which both ran to their end{counted}"
    size = objective.format(abs(found.mean))
    if comparison.difference.is_too_small:
        return f"{TOO_SMALL}: {best} is {size} better than {other} over {_seeds(found.n)}{counted}"
    if math.isnan(comparison.difference.p):
        return f"{best} and {other} differ by {size} with every seed: the seed changes nothing, so there is no p-value"
    low, high = (found.low, found.high) if found.mean > 0 else (-found.high, -found.low)
    said = f"{size} {interval_text(low, high, objective)}, {p_text(comparison.p_holm)}, {_seeds(found.n)}"
    if comparison.is_told_apart:
        return f"{best} beats {other} by {said}{counted}"
    return f"{best} and {other} cannot be told apart: {said}{counted}"


def _counted_text(comparison: Comparison, objective: Objective) -> str:
    """What the comparison is with collapses, behind one without them; empty where there is none to add."""
    found = comparison.with_collapses
    if found is None or found.is_too_small:
        return ""
    names = (comparison.first, comparison.second)
    best = names[0] if objective.is_better(found.mean, 0.0) else names[1]
    low, high = (found.low, found.high) if found.mean > 0 else (-found.high, -found.low)
    ends = interval_text(low, high, objective)
    return f"; with collapses as the constant pose, {best} is {objective.format(abs(found.mean))} {ends} better"


def interval_text(low: float, high: float, objective: Objective) -> str:
    """An interval of the objective, without a unit."""
    return f"[{objective.number(low)}, {objective.number(high)}]"


def mean_interval_text(found: Estimate, objective: Objective) -> str:
    """The interval of a mean as a table shows it; too few runs have none that says anything."""
    return TOO_SMALL if found.is_too_small else interval_text(found.low, found.high, objective)


def p_text(p: float) -> str:
    """A p-value in a sentence."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _seeds(n: int) -> str:
    return f"{n} seed{'s' if n != 1 else ''}"
