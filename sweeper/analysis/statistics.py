"""What can be said about runs that were repeated over seeds: intervals, paired differences, what n pairs can see. Pure.

Runs of two configurations with the same seed share their data order and what they drew at the start, so they are
compared in pairs. That is a fixed rule, never chosen from the data: the paired test is valid whatever the seeds have in
common, while an unpaired one has too many false positives where seeds have opposite effects, and choosing by the
measured correlation has too many everywhere (tests/sweeper_tests/analysis/test_pairing.py). All intervals are those of
Student's t, two-sided. Imports scipy, so import this late.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import gammaln, nctdtrinc, ndtri, stdtr, stdtrit

CONFIDENCE: Final = 0.95
ALPHA: Final = 0.05
"""Chance of reporting a difference where there is none, over all comparisons of a table together."""
POWER: Final = 0.8
FEWEST: Final = 3
"""With fewer runs or pairs no statement is made: the t-interval of two is 13 standard errors wide on either side."""


@dataclass(frozen=True)
class Estimate:
    """A mean, in the unit of its values.

    Attributes:
        n: values.
        mean: NaN of none.
        sd: their standard deviation (n - 1 in the denominator); NaN of fewer than two.
        low: lower end of the 95 % interval of the mean; NaN of fewer than two values.
        high: upper end.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float

    @property
    def is_too_small(self) -> bool:
        """Whether n is too small to say anything about the mean."""
        return self.n < FEWEST


@dataclass(frozen=True)
class Difference:
    """The mean of differences within pairs, first minus second.

    Attributes:
        estimate: of the mean difference.
        p: of the paired t-test; NaN if n is too small or all pairs differ by the same amount.
        effect: Cohen's d_z with Hedges' correction: the mean difference over its standard deviation; NaN as p.
    """

    estimate: Estimate
    p: float
    effect: float

    @property
    def is_too_small(self) -> bool:
        return self.estimate.is_too_small


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of values with its 95 % t-interval.

    Args:
        values: independent, finite.
    """
    n = len(values)
    mean = float(np.mean(values)) if n else math.nan
    if n < 2:
        return Estimate(n, mean, math.nan, math.nan, math.nan)
    sd = float(np.std(values, ddof=1))
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * sd / math.sqrt(n)
    return Estimate(n, mean, sd, mean - half, mean + half)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """First minus second, pair by pair: interval, two-sided p of the paired t-test, and effect size.

    If all pairs differ by exactly the same number, nothing was repeated: the seed changes nothing, so there is no p.

    Args:
        first: values, in the order of the pairs.
        second: as many.
    """
    return mean_difference([one - other for one, other in zip(first, second, strict=True)])


def mean_difference(differences: Sequence[float]) -> Difference:
    """As `paired_difference`, for differences already computed."""
    found = estimate(differences)
    rounding = 1e-12 * max((abs(value) for value in differences), default=0.0)
    if found.is_too_small or found.sd <= rounding:
        return Difference(found, math.nan, math.nan)
    t = found.mean / (found.sd / math.sqrt(found.n))
    p = 2 * float(stdtr(found.n - 1, -abs(t)))
    return Difference(found, p, hedges_correction(found.n - 1) * found.mean / found.sd)


def hedges_correction(df: int) -> float:
    """Factor that makes d unbiased: gamma(df/2) / (sqrt(df/2) gamma((df-1)/2)). Hedges 1981, equation 6e.

    Args:
        df: degrees of freedom of the standard deviation, > 1.
    """
    return math.exp(float(gammaln(df / 2) - gammaln((df - 1) / 2))) / math.sqrt(df / 2)


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values corrected for multiple comparisons by Holm (1979): by chance, one falls below 0.05 in at most 5 % of
    tables.

    A NaN stays one, and counts as no comparison.
    """
    ranked = sorted((p, index) for index, p in enumerate(ps) if not math.isnan(p))
    corrected, largest = list(ps), 0.0
    for rank, (p, index) in enumerate(ranked):
        largest = max(largest, min(1.0, (len(ranked) - rank) * p))
        corrected[index] = largest
    return corrected


def pooled_sd(differences: Sequence[Difference]) -> tuple[float, int]:
    """The common standard deviation of several sets of differences, and its degrees of freedom; NaN and 0 of none."""
    found = [each.estimate for each in differences if not math.isnan(each.p)]
    degrees = sum(each.n - 1 for each in found)
    squares = sum((each.n - 1) * each.sd**2 for each in found)
    return (math.sqrt(squares / degrees), degrees) if degrees else (math.nan, 0)


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share: Wilson's score interval (1927), which is valid for small counts and for zero.

    Args:
        hits: of `n`, which is above 0.
    """
    z = float(ndtri((1 + CONFIDENCE) / 2))
    share, scale = hits / n, 1 + z * z / n
    middle = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)


def detectable_effect(pairs: int, comparisons: int = 1) -> float:
    """The smallest true difference that n pairs show in 80 % of studies, in standard deviations of the differences.

    The paired t-test rejects at 0.05 over the number of comparisons (the first step of Holm); the noncentral t gives
    the power (Cohen 1988, chapter 2). Infinite if n is too small to say.
    """
    if pairs < FEWEST:
        return math.inf
    critical = stdtrit(pairs - 1, 1 - ALPHA / comparisons / 2)
    return float(nctdtrinc(pairs - 1, 1 - POWER, critical)) / math.sqrt(pairs)
