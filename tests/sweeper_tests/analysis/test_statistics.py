import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sweeper.analysis.statistics import (
    ALPHA,
    POWER,
    detectable_effect,
    estimate,
    hedges_correction,
    holm,
    mean_difference,
    paired_difference,
    wilson_interval,
)

# Student (1908), The probable error of a mean: hours of extra sleep of ten patients with two drugs. R's `t.test(extra ~
# group, data = sleep, paired = TRUE)` says t = -4.0621, df = 9, p-value = 0.002833, interval -2.4598858 -0.7001142.
FIRST_DRUG = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND_DRUG = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
NUMBERS = st.floats(-1e3, 1e3, allow_subnormal=False)


def test_students_sleep_data() -> None:
    found = paired_difference(FIRST_DRUG, SECOND_DRUG)
    assert found.estimate.n == 10
    assert found.estimate.mean == pytest.approx(-1.58)
    assert (found.estimate.low, found.estimate.high) == pytest.approx((-2.4598858, -0.7001142), abs=1e-6)
    assert found.p == pytest.approx(0.002833, abs=1e-6)
    assert found.estimate.mean / found.estimate.sd * math.sqrt(10) == pytest.approx(-4.0621, abs=1e-4)
    assert found.effect == pytest.approx(-4.0621 / math.sqrt(10) * 0.9139, abs=1e-3)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=20))
def test_interval_and_p_match_scipys_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    first, second = map(list, zip(*pairs, strict=True))
    found = paired_difference(first, second)
    if math.isnan(found.p):
        assert np.ptp(np.subtract(first, second)) < 1e-9
        return
    expected = stats.ttest_rel(first, second)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    interval = expected.confidence_interval()
    assert (found.estimate.low, found.estimate.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-6)


def test_too_few_values_say_nothing() -> None:
    assert math.isnan(estimate([]).mean)
    assert math.isnan(estimate([2.0]).low)
    found = paired_difference([1.0, 2.0], [0.5, 1.7])
    assert found.is_too_small
    assert math.isnan(found.p)
    assert not paired_difference([1.0, 2.0, 3.0], [0.5, 1.7, 2.0]).is_too_small


def test_pairs_that_all_differ_by_the_same_amount_give_no_p_value() -> None:
    found = paired_difference([12.1, 13.7, 11.9, 12.4], [11.1, 12.7, 10.9, 11.4])
    assert found.estimate.mean == pytest.approx(1.0)
    assert math.isnan(found.p)
    assert math.isnan(found.effect)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    with_gap = holm([0.02, math.nan, 0.03])
    assert math.isnan(with_gap[1])
    assert (with_gap[0], with_gap[2]) == pytest.approx((0.04, 0.04))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_corrects_upwards_keeps_the_order_and_never_exceeds_bonferroni(ps: list[float]) -> None:
    corrected = holm(ps)
    for (p, after), (other, other_after) in itertools.product(zip(ps, corrected, strict=True), repeat=2):
        assert p <= after <= min(1.0, len(ps) * p) + 1e-12
        assert after <= other_after or p > other


def test_hedges_correction_is_near_its_textbook_approximation() -> None:
    for df in (4, 9, 20, 100):
        assert hedges_correction(df) == pytest.approx(1 - 3 / (4 * df - 1), abs=0.003)  # Hedges & Olkin 1985


def test_wilsons_interval_matches_published_tables_and_scipy() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for hits, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson_interval(hits, n) == pytest.approx((low, high), abs=1e-4)
    expected = stats.binomtest(5, 5).proportion_ci(method="wilson")
    assert wilson_interval(5, 5) == pytest.approx((expected.low, expected.high))


def test_detectable_effect_matches_published_power_tables() -> None:
    # Cohen 1988 and G*Power, paired t-test, two-sided 0.05, power 0.8: d_z 0.5 needs 34 pairs, 0.8 needs 15, 0.2 199.
    for effect, pairs in ((0.5, 34), (0.8, 15), (0.2, 199)):
        assert detectable_effect(pairs) <= effect < detectable_effect(pairs - 1)
    assert detectable_effect(2) == math.inf
    assert detectable_effect(5, comparisons=4) > detectable_effect(5)


# -- by simulation: what the words "95 %" and "p < 0.05" promise

STUDIES = 3000


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_interval_covers_the_true_mean_in_95_percent_of_studies(n: int) -> None:
    draws = np.random.default_rng(n).normal(12.0, 0.7, (STUDIES, n))
    covered = sum(found.low <= 12.0 <= found.high for found in map(estimate, draws.tolist()))
    assert 0.93 <= covered / STUDIES <= 0.97


def test_among_equal_variants_a_table_names_a_difference_in_at_most_5_percent_of_studies() -> None:
    random = np.random.default_rng(1)
    false = 0
    for _ in range(STUDIES):
        seed_effect = random.normal(0.0, 1.0, 5)  # shared by the variants, as the order of the data is
        runs = seed_effect + random.normal(0.0, 0.5, (4, 5))
        ps = [paired_difference(variant, runs[0]).p for variant in runs[1:]]
        false += min(holm(ps)) < ALPHA
    assert false / STUDIES <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / STUDIES)  # two standard errors of the simulation
    assert false / STUDIES > 0.01  # it can say something


@pytest.mark.parametrize("n", [4, 8])
def test_a_difference_of_the_detectable_size_is_found_in_80_percent_of_studies(n: int) -> None:
    draws = np.random.default_rng(n).normal(detectable_effect(n), 1.0, (STUDIES, n))
    found = sum(mean_difference(values).p < ALPHA for values in draws.tolist())
    assert found / STUDIES == pytest.approx(POWER, abs=0.03)
