"""Runs that repeat each variant over the same seeds, as statistics needs them. Pure; imports scipy, so import it late.

A run counts for a mean only if it ran to its end: where a guard, a rank or an error stopped it, its last value is of a
shorter training. Such runs are counted by how they ended, and never left out in silence.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeper.analysis.statistics import ALPHA, Difference, Estimate, estimate, holm, paired_difference
from sweeper.entrypoint.offers import DEFAULT_OFFERS
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.search_space.dimensions import ParamValue
from sweeper.spec.model import SEED, VARIANT, SpecFile
from sweeper.spec.objective import Objective
from sweeper.spec.sections import CollapseGuard


@dataclass(frozen=True)
class VariantRuns:
    """What the runs of one variant came to.

    Attributes:
        name: of the variant.
        values: seed -> objective of each run that ran to its end.
        runs: all that have been started.
        collapsed: that ended with one pose for every image, whether a guard stopped them or not.
        failed: that ended with an error, and were not tried again.
        stopped: that were ended early for their rank or by the user.
        running: that have not ended.
    """

    name: str
    values: Mapping[ParamValue, float]
    runs: int
    collapsed: int
    failed: int
    stopped: int
    running: int

    @property
    def estimate(self) -> Estimate:
        """Mean and interval of the runs that ran to their end."""
        return estimate(list(self.values.values()))

    @property
    def losses_text(self) -> str:
        """The runs that are not part of the mean or have collapsed, `1 collapsed, 2 failed`; empty if all is well."""
        counts = {name: getattr(self, name) for name in ("collapsed", "failed", "stopped", "running")}
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


@dataclass(frozen=True)
class Comparison:
    """Two variants over the seeds that both have, first minus second.

    Attributes:
        first: name of a variant.
        second: name of the other.
        difference: in the unit of the objective.
        p_holm: its p, corrected for all comparisons made beside it; NaN where there is none.
    """

    first: str
    second: str
    difference: Difference
    p_holm: float

    @property
    def is_told_apart(self) -> bool:
        """Whether they differ by more than chance."""
        return self.p_holm < ALPHA


def runs_of_variants(spec: SpecFile, trials: Sequence[TrialRecord]) -> list[VariantRuns]:
    """The runs of each variant of a spec, in its order; one that has not been started has none."""
    again = {trial.retry_of for trial in trials}
    counted = [trial for trial in trials if not (trial.state is TrialState.FAILED and trial.id in again)]
    guard = next((guard for guard in spec.guards if isinstance(guard, CollapseGuard)), CollapseGuard())
    return [_runs_of(name, counted, spec.objective, guard) for name in spec.variants]


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
    """Whether a guard stopped the trial, or it came to its end below both thresholds of the collapse guard."""
    if trial.state is not TrialState.COMPLETE:
        return trial.state is TrialState.COLLAPSED
    ratio = trial.metrics.get(DEFAULT_OFFERS.variance_ratio, math.inf)
    r2 = trial.metrics.get(DEFAULT_OFFERS.explained, math.inf)
    return ratio < guard.var_ratio_below and r2 < guard.r2_below


def compare(pairs: Sequence[tuple[VariantRuns, VariantRuns]]) -> list[Comparison]:
    """Compare variants pair by pair over shared seeds; the p-values are corrected for all of them together (Holm)."""
    found = []
    for first, second in pairs:
        shared = [seed for seed in first.values if seed in second.values]
        found.append(
            paired_difference([first.values[seed] for seed in shared], [second.values[seed] for seed in shared])
        )
    corrected = holm([difference.p for difference in found])
    return [
        Comparison(first.name, second.name, difference, p)
        for (first, second), difference, p in zip(pairs, found, corrected, strict=True)
    ]


def better(comparison: Comparison, objective: Objective) -> tuple[str, str]:
    """The names of a comparison, the better one first."""
    first_is_better = objective.is_better(comparison.difference.estimate.mean, 0.0)
    names = (comparison.first, comparison.second)
    return names if first_is_better else (names[1], names[0])


def verdict_of(comparison: Comparison, objective: Objective) -> str:
    """A comparison in one sentence."""
    best, other = better(comparison, objective)
    found = comparison.difference.estimate
    if found.n == 0:
        return f"{best} and {other} have no seed in common with which both ran to their end"
    size = objective.format(abs(found.mean))
    if comparison.difference.is_too_small:
        return f"n is too small to say: {best} is {size} better than {other} over {_seeds(found.n)}"
    if math.isnan(comparison.difference.p):
        return (
            f"{best} and {other} differ by {size} with every seed: the seed changes nothing, so no p-value can be had"
        )
    low, high = (found.low, found.high) if found.mean > 0 else (-found.high, -found.low)
    said = f"{size} {interval_text(low, high, objective)}, {p_text(comparison.p_holm)}, {_seeds(found.n)}"
    if comparison.is_told_apart:
        return f"{best} beats {other} by {said}"
    return f"{best} and {other} cannot be told apart: {said}"


def interval_text(low: float, high: float, objective: Objective) -> str:
    """An interval of the objective, without a unit."""
    return f"[{low:.2f}, {high:.2f}]" if objective.metric.endswith("_mm") else f"[{low:.4g}, {high:.4g}]"


def p_text(p: float) -> str:
    """A p-value in a sentence."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _seeds(n: int) -> str:
    return f"{n} seed{'s' if n != 1 else ''}"
