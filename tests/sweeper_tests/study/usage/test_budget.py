import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.spec.sections import Budget, Resources
from sweeper.study.usage.budget import duration_text, left, may_start, saved_s, spent, used_text, used_up

AMOUNTS = st.floats(0, 1e6, allow_nan=False)


def test_device_seconds_are_the_seconds_of_workers_times_what_a_trial_takes() -> None:
    used = spent(Budget(euros_per_gpu_hour=3.0), Resources(cpus=4, gpus=0.5), trials=2, trial_s=7200, wall_clock_s=10)
    assert (used.gpu_seconds, used.cpu_seconds, used.euros) == (3600, 28800, 3.0)
    assert spent(Budget(), Resources(gpus=1), 1, 1, 1).euros is None, "without a price nobody knows"


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (Budget(wall_clock_s=100), "budget: 100 s of wall clock used up"),
        (Budget(cpu_seconds=80), "budget: 80 CPU-seconds used up"),
        (Budget(gpu_seconds=40), "budget: 40 GPU-seconds used up"),
        (Budget(euros=0.01, euros_per_gpu_hour=0.9), "budget: 0.01 euros used up"),
        (Budget(wall_clock_s=101, cpu_seconds=81, gpu_seconds=41, euros=0.02, euros_per_gpu_hour=0.9), None),
        (Budget(), None),
    ],
)
def test_each_limit_is_used_up_exactly_when_it_is_reached(budget: Budget, reason: str | None) -> None:
    used = spent(budget, Resources(cpus=2), trials=3, trial_s=40, wall_clock_s=100)
    with_gpu = spent(budget, Resources(cpus=2, gpus=1), trials=3, trial_s=40, wall_clock_s=100)
    uses_gpu = budget.gpu_seconds is not None or budget.euros is not None
    assert used_up(budget, with_gpu if uses_gpu else used) == reason


def test_a_number_of_trials_keeps_others_from_starting_and_stops_none() -> None:
    budget = Budget(trials=2)
    assert may_start(budget, spent(budget, Resources(), 1, 10, 10))
    at_limit = spent(budget, Resources(), 2, 10, 10)
    assert not may_start(budget, at_limit)
    assert used_up(budget, at_limit) is None


@given(limit=AMOUNTS.filter(lambda x: x > 0), first=AMOUNTS, more=AMOUNTS)
def test_what_is_left_never_grows_nor_falls_below_zero(limit: float, first: float, more: float) -> None:
    budget = Budget(cpu_seconds=limit)
    before = left(budget, spent(budget, Resources(), 1, first, 0))["cpu_seconds"]
    after = left(budget, spent(budget, Resources(), 1, first + more, 0))["cpu_seconds"]
    assert 0 <= after <= before <= limit
    assert (after == 0) == (used_up(budget, spent(budget, Resources(), 1, first + more, 0)) is not None)


def test_saved_is_what_each_stopped_trial_would_have_taken_at_its_own_pace() -> None:
    assert saved_s([(20, 2), (4, 4), (5, 0)], full_epochs=8) == 60 + 4
    assert saved_s([(20, 10)], full_epochs=8) == 0


def test_the_sentence_names_amounts_and_limits() -> None:
    budget = Budget(cpu_seconds=7200, trials=5)
    assert used_text(budget, spent(budget, Resources(cpus=1), 3, 3600, 1900)) == (
        "used 31.7 min of wall clock, 1 CPU-hours (of 2 CPU-hours), 3 of 5 trials"
    )
    assert [duration_text(s) for s in (40, 720, 12600)] == ["40 s", "12 min", "3.5 h"]
