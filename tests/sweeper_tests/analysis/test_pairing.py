"""Why runs are always paired by seed: simulated tables without any difference, whatever runs with one seed share."""

import math

import numpy as np
import pytest
from scipy import stats

from sweeper.analysis.power import pairing_text
from sweeper.analysis.replicates import Comparison, VariantRuns, compare
from sweeper.analysis.statistics import ALPHA

STUDIES, SEEDS = 2000, 5
ERROR = 3 * math.sqrt(ALPHA * (1 - ALPHA) / STUDIES)
"""Three standard errors of a rate of 5 % over that many simulated studies."""


def studies(correlation: float, seed: int) -> np.ndarray:
    """(STUDIES, 2, SEEDS): two configurations with the same mean, whose runs with the same seed are correlated."""
    covariance = [[1.0, correlation], [correlation, 1.0]]
    drawn = np.random.default_rng(seed).multivariate_normal([0.0, 0.0], covariance, (STUDIES, SEEDS))
    return drawn.transpose(0, 2, 1)


def compared(values: np.ndarray) -> Comparison:
    one, other = (
        VariantRuns(name, dict(enumerate(row)), SEEDS, 0, 0, 0, 0) for name, row in zip("ab", values, strict=True)
    )
    return compare([(one, other)])[0]


@pytest.mark.parametrize("correlation", [-0.65, 0.0, 0.65])
def test_pairing_never_finds_too_much(correlation: float) -> None:
    false = np.mean([compared(values).is_told_apart for values in studies(correlation, 1)])
    assert false == pytest.approx(ALPHA, abs=ERROR)


def test_unpaired_runs_find_too_much_where_seeds_pull_in_opposite_directions() -> None:
    """-0.65 was measured between two learning rates."""
    values = studies(-0.65, 2)
    assert np.mean(stats.ttest_ind(values[:, 0], values[:, 1], axis=1, equal_var=False).pvalue < ALPHA) > ALPHA + ERROR


def test_choosing_by_the_measured_correlation_finds_too_much() -> None:
    values = studies(0.0, 3)
    paired = stats.ttest_rel(values[:, 0], values[:, 1], axis=1).pvalue
    unpaired = stats.ttest_ind(values[:, 0], values[:, 1], axis=1, equal_var=False).pvalue
    correlation = np.array([np.corrcoef(rows)[0, 1] for rows in values])
    assert np.mean(np.where(correlation > 0, paired, unpaired) < ALPHA) > ALPHA + ERROR


def test_the_correlation_of_pairs_is_stated() -> None:
    seeds = np.arange(5.0)
    together = compared(np.stack([seeds, 2 * seeds + 1 + 0.1 * seeds**2]))
    apart = compared(np.stack([seeds, -seeds + 0.1 * seeds**2]))
    assert together.correlation == pytest.approx(np.corrcoef(seeds, 2 * seeds + 0.1 * seeds**2)[0, 1])
    assert "always paired" in pairing_text([together])
    assert "costs power" not in pairing_text([together])
    assert "costs power" in pairing_text([apart])
    assert pairing_text([]) == ""
