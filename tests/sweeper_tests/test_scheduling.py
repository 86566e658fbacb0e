from hypothesis import given
from hypothesis import strategies as st

from sweeper.scheduling import judge_at_rung, rung_epochs

values = st.floats(0, 100, allow_nan=False)


def test_rungs_grow_by_eta_and_end_before_the_full_run() -> None:
    assert rung_epochs(2, 2, 8) == [2, 4]
    assert rung_epochs(1, 3, 30) == [1, 3, 9, 27]
    assert rung_epochs(8, 2, 8) == []


def test_the_first_trial_at_a_rung_goes_on() -> None:
    assert judge_at_rung(2, 50.0, [], eta=2, mode="min").keep


def test_rank_and_cutoff_are_told() -> None:
    result = judge_at_rung(2, 25.0, [10.0, 20.0, 30.0], eta=2, mode="min")
    assert (result.rank, result.of, result.cutoff, result.keep) == (3, 4, 20.0, False)


@given(st.lists(values, max_size=30), values, st.integers(2, 4))
def test_a_kept_trial_is_in_the_best_share(earlier: list[float], value: float, eta: int) -> None:
    result = judge_at_rung(2, value, earlier, eta, "min")
    places = max(1, (len(earlier) + 1) // eta)
    assert result.keep == (sum(other < value for other in earlier) < places)


@given(st.lists(values, max_size=30), values, st.integers(2, 4))
def test_max_mirrors_min(earlier: list[float], value: float, eta: int) -> None:
    least = judge_at_rung(2, value, earlier, eta, "min")
    most = judge_at_rung(2, -value, [-other for other in earlier], eta, "max")
    assert (least.keep, least.rank) == (most.keep, most.rank)
