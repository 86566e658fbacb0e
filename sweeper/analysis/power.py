"""The smallest difference that a number of seeds shows, given how far paired differences spread. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.analysis.replicates import Comparison
from sweeper.analysis.statistics import Difference, detectable_effect, pooled_sd
from sweeper.spec.objective import Objective


@dataclass(frozen=True)
class DetectableEffect:
    """What comparisons over seeds can detect.

    Attributes:
        pairs: seeds, so pairs of a comparison.
        comparisons: over which p is corrected.
        spread: standard deviation of the paired differences, in the unit of the objective; None: unknown.
        source: where that comes from; empty if unknown.
        one: the smallest true difference that one comparison alone shows 4 times in 5; in standard deviations of the
            differences if the spread is unknown. Infinite if n is too small to say.
        corrected: the same after Holm's correction for all comparisons, at its strictest.
    """

    pairs: int
    comparisons: int
    spread: float | None
    source: str
    one: float
    corrected: float


def detectable(pairs: int, comparisons: int, spread: float | None, source: str) -> DetectableEffect:
    """What a number of seeds can detect, given the spread of paired differences."""
    scale = 1.0 if spread is None else spread
    one, corrected = (scale * detectable_effect(pairs, count) for count in (1, comparisons))
    return DetectableEffect(pairs, comparisons, spread, source, one, corrected)


def power_of(differences: Sequence[Difference], seeds: int, comparisons: int) -> DetectableEffect:
    """What measured differences can detect.

    Args:
        differences: whose spread is pooled.
        seeds: as requested.
        comparisons: in the family that p is corrected for.
    """
    spread, degrees = pooled_sd(differences)
    if not degrees:
        return detectable(seeds, comparisons, None, "")
    return detectable(seeds, comparisons, spread, f"measured here, {degrees} degrees of freedom")


def power_text(sight: DetectableEffect, objective: Objective, what: str = "differences") -> str:
    """The power of the comparisons, in one sentence to be printed before the results."""
    if math.isinf(sight.one):
        return f"power: none; {sight.pairs} seeds are too few to tell {what} from chance"
    form, spread = objective.format, "the spread over seeds is not known"
    if sight.spread is None:
        sizes = [f"{value:.2f} standard deviations" for value in (sight.one, sight.corrected)]
    else:
        sizes = [form(value) for value in (sight.one, sight.corrected)]
        spread = f"paired differences spread by {form(sight.spread)} ({sight.source})"
    family = f", {sizes[1]} after correction for {sight.comparisons} comparisons" if sight.comparisons > 1 else ""
    return f"power: {sight.pairs} seeds show {what} of {sizes[0]} or more 4 times in 5{family}; {spread}"


def pairing_text(comparisons: Sequence[Comparison]) -> str:
    """How runs are paired, and how the pairs turned out to correlate; empty if nothing was compared."""
    found = [each.correlation for each in comparisons if not math.isnan(each.correlation)]
    if not found:
        return ""
    mean = sum(found) / len(found)
    return f"runs are always paired by seed; correlation of pairs {mean:+.2f}" + (
        " (below 0: pairing costs power here, but without it p would be too small)" if mean < 0 else ""
    )
