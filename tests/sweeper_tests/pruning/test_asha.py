import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sweeper.pruning.asha import (
    Rung,
    RungResult,
    Runner,
    bracket_of,
    is_audited,
    judge,
    next_promoted,
    rung_epochs,
    rung_of,
    standing,
    table_of,
)
from sweeper.pruning.asha import judge_at_rung as judge_points
from sweeper.pruning.domination import Point
from sweeper.spec.objective import Mode, loss_of
from sweeper.spec.sections import SchedulerConfig

values = st.floats(0, 100, allow_nan=False)


def scheduler(**changes: Any) -> SchedulerConfig:
    return SchedulerConfig.model_validate({"grace_epochs": 1, "eta": 2} | changes)


def judged(config: SchedulerConfig, mode: Mode, one: Runner, others: Sequence[Runner]) -> RungResult | None:
    return judge(config, mode, one, table_of(config, mode, others))


def judge_at_rung(
    epoch: float, value: float, earlier: Sequence[float], eta: int, mode: Mode, at_least: int = 1
) -> RungResult:
    points = [(loss_of(each, mode),) for each in (value, *earlier)]
    return judge_points(epoch, points[0], points, eta, mode, at_least)


def stands(
    config: SchedulerConfig, mode: Mode, one: Runner, others: Sequence[Runner], at_least: int = 1
) -> RungResult | None:
    return standing(config, mode, one, table_of(config, mode, others), at_least)


def promoted_of(
    mode: Mode, paused: Sequence[Runner], others: Sequence[Runner], *, idle: bool
) -> tuple[int, RungResult] | None:
    waiting: dict[Rung, dict[int, Point]] = {}
    for each in paused:
        for (bracket, epoch), value in table_of(PROMOTE, mode, [each]).items():
            if epoch == rung_of(PROMOTE, each):
                waiting.setdefault((bracket, epoch), {}).update(value)
    return next_promoted(PROMOTE, mode, waiting, table_of(PROMOTE, mode, [*paused, *others]), idle=idle)


PROMOTE = scheduler(mode="promote")


def runner(number: int, *objectives: float, total: float = 8.0, every: float = 1.0) -> Runner:
    """A trial with these objectives at epochs `every`, 2 * `every`, ..."""
    return Runner(number, [(every * step, value) for step, value in enumerate(objectives, start=1)], total)


def test_rungs_grow_by_eta_and_end_before_the_full_run() -> None:
    assert rung_epochs(2, 2, 8) == [2, 4]
    assert rung_epochs(0.25, 2, 3) == [0.25, 0.5, 1, 2]
    assert rung_epochs(1, 3, 30) == [1, 3, 9, 27]
    assert rung_epochs(8, 2, 8) == []


def test_the_first_trial_at_a_rung_continues() -> None:
    assert judge_at_rung(2, 50.0, [], eta=2, mode="min").keep


def test_rank_and_cutoff_are_reported() -> None:
    result = judge_at_rung(2, 25.0, [10.0, 20.0, 30.0], eta=2, mode="min")
    assert (result.rank, result.of, result.cutoff, result.keep) == (3, 4, 20.0, False)


@given(st.lists(values, max_size=30), values, st.integers(2, 4), st.integers(0, 1))
def test_a_kept_trial_is_in_the_best_share(earlier: list[float], value: float, eta: int, at_least: int) -> None:
    result = judge_at_rung(2, value, earlier, eta, "min", at_least)
    places = max(at_least, (len(earlier) + 1) // eta)
    assert result.keep == (sum(other < value for other in earlier) < places)


@given(st.lists(values, max_size=30), values, st.integers(2, 4))
def test_max_mirrors_min(earlier: list[float], value: float, eta: int) -> None:
    least = judge_at_rung(2, value, earlier, eta, "min")
    most = judge_at_rung(2, -value, [-other for other in earlier], eta, "max")
    assert (least.keep, least.rank) == (most.keep, most.rank)


def test_the_rung_reached_counts_evaluations_inside_an_epoch() -> None:
    config = scheduler(grace_epochs=0.5)
    assert rung_of(config, runner(0, every=0.25)) is None
    assert rung_of(config, runner(0, 9.0, every=0.25)) is None
    assert rung_of(config, runner(0, 9.0, 9.0, every=0.25)) == 0.5
    assert rung_of(config, runner(0, *[9.0] * 9, every=0.25)) == 2.0
    assert rung_of(scheduler(name="none"), runner(0, 9.0, 9.0)) is None


def test_a_trial_is_judged_when_it_reaches_a_rung_and_not_between() -> None:
    config, rivals = scheduler(), [runner(0, 1.0, 1.0, 1.0, 1.0)]
    results = [judged(config, "min", runner(1, *[5.0] * epochs), rivals) for epochs in range(1, 9)]
    assert [result.rung_epoch if result else None for result in results] == [1, 2, None, 4, None, None, None, None]
    assert all(not result.keep for result in results if result)


def test_no_rank_at_the_end_of_a_run() -> None:
    """Its first evaluation after the rung at 2 is its last: there is nothing left to save."""
    assert judged(scheduler(), "min", runner(1, 5.0, 5.0, total=3.0), [runner(0, 1.0, 1.0)]) is not None
    ended = Runner(1, [(1.0, 5.0), (3.0, 5.0)], 3.0)
    assert judged(scheduler(), "min", ended, [runner(0, 1.0, 1.0, 1.0)]) is None


def test_a_value_that_is_not_finite_neither_ranks_nor_counts() -> None:
    assert judged(scheduler(), "min", runner(1, math.nan), [runner(0, 1.0)]) is None
    result = judged(scheduler(), "min", runner(1, 5.0), [runner(0, math.nan), runner(2, math.inf)])
    assert result is not None
    assert (result.of, result.keep) == (1, True)


def test_a_trial_ranks_by_its_best_value_up_to_the_rung() -> None:
    jumpy = runner(1, 4.0, 9.0, 1.0, total=16.0)
    result = stands(scheduler(), "min", jumpy, [runner(0, 5.0, 5.0, 0.0)])
    assert result is not None
    assert (result.value, result.cutoff, result.keep) == (4.0, 4.0, True)
    highest = stands(scheduler(), "max", jumpy, [runner(0, 5.0, math.nan)])
    assert highest is not None
    assert (highest.value, highest.rank) == (9.0, 1)


# -- brackets


def test_only_hyperband_has_brackets() -> None:
    assert {bracket_of(scheduler(), number) for number in range(50)} == {0}


def test_brackets_share_the_trials_as_hyperband_does() -> None:
    """3 brackets with eta 3 start 9, 5 and 3 trials a round, by the formula of the paper's algorithm 1."""
    config = scheduler(name="hyperband", eta=3, brackets=3)
    dealt = [bracket_of(config, number) for number in range(34)]
    assert Counter(dealt) == {0: 18, 1: 10, 2: 6}
    assert dealt[:3] == [0, 1, 2]


def test_a_later_bracket_is_more_patient_and_ranks_among_its_own() -> None:
    config = scheduler(name="hyperband", brackets=3)
    assert [bracket_of(config, number) for number in (0, 1, 2, 3)] == [0, 1, 2, 0]
    bad = [9.0, 9.0]
    assert [rung_of(config, runner(number, *bad)) for number in (0, 1, 2)] == [2, 2, None]
    good = [runner(number, 1.0, 1.0) for number in (0, 2, 3)]
    in_bracket_1 = judged(config, "min", runner(1, *bad), good)
    assert in_bracket_1 is not None
    assert in_bracket_1.of == 1
    in_bracket_0 = judged(config, "min", runner(6, *bad), good)
    assert in_bracket_0 is not None
    assert (in_bracket_0.of, in_bracket_0.keep) == (3, False)


# -- promote


def test_a_trial_waits_for_rivals_and_is_promoted_when_it_is_among_the_best() -> None:
    first = runner(0, 5.0)
    result = judged(PROMOTE, "min", first, [])
    assert result is not None
    assert not result.keep
    assert promoted_of("min", [first], [], idle=False) is None
    promoted = promoted_of("min", [first, runner(1, 6.0)], [], idle=False)
    assert promoted is not None
    assert promoted[0] == 0


def test_the_highest_rung_is_promoted_first() -> None:
    at_1 = [runner(number, value) for number, value in enumerate([1.0, 2.0, 3.0, 4.0])]
    at_2 = [runner(number, value, value) for number, value in ((4, 7.0), (5, 8.0))]
    promoted = promoted_of("min", at_1 + at_2, [], idle=False)
    assert promoted is not None
    assert (promoted[0], promoted[1].rung_epoch) == (4, 2)


def test_when_nothing_else_is_left_the_best_of_a_rung_is_promoted_once() -> None:
    last = runner(0, 5.0, 5.0)
    promoted = promoted_of("min", [last], [], idle=True)
    assert promoted is not None
    assert promoted[0] == 0
    gone_on = runner(1, 4.0, 4.0, 4.0)
    assert promoted_of("min", [last], [gone_on], idle=True) is None


@given(st.lists(st.lists(values, min_size=1, max_size=7), max_size=12), st.sampled_from(["min", "max"]), st.booleans())
def test_a_promoted_trial_is_among_the_best_of_its_rung(curves: list[list[float]], mode: Mode, idle: bool) -> None:
    runners = [runner(number, *curve) for number, curve in enumerate(curves)]
    paused = [each for each in runners if len(each.curve) in (1, 2, 4)]
    others = [each for each in runners if each not in paused]
    promoted = promoted_of(mode, paused, others, idle=idle)
    kept = []
    for each in paused:
        rivals = [other for other in runners if other is not each]
        result = stands(PROMOTE, mode, each, rivals, at_least=1 if idle else 0)
        if result is not None and result.keep:
            kept.append((result.rung_epoch, -result.value if mode == "min" else result.value))
    assert (promoted is None) == (not kept)
    if promoted is not None:
        value = -promoted[1].value if mode == "min" else promoted[1].value
        assert (promoted[1].rung_epoch, value) == max(kept)


@given(st.permutations(range(8)), st.lists(values, min_size=8, max_size=8, unique=True))
def test_promotion_finds_the_best_trial_in_any_order(order: list[int], finals: list[float]) -> None:
    """One worker, curves that never cross: the best trial runs to its end in any order, and not all others do."""
    curves = {number: [finals[number]] * 8 for number in order}
    paused: dict[int, Runner] = {}
    finished: list[int] = []
    queue = list(order)
    while True:
        everyone = [*paused.values(), *(runner(number, *curves[number]) for number in finished)]
        idle = not queue
        found = promoted_of(
            "min", list(paused.values()), [each for each in everyone if each.number in finished], idle=idle
        )
        if found is None and idle:
            break
        number, done = (queue.pop(0), 0) if found is None else (found[0], len(paused.pop(found[0]).curve))
        rivals = [each for each in everyone if each.number != number]
        for epochs in range(done + 1, 9):
            current = runner(number, *curves[number][:epochs])
            result = judged(PROMOTE, "min", current, rivals)
            if result is not None and not result.keep:
                paused[number] = current
                break
        else:
            finished.append(number)
    best = min(finals)
    assert finals.index(best) in finished
    assert len(finished) < 8


# -- audit


def test_a_share_of_the_trials_is_audited_and_always_the_same_ones() -> None:
    audited = [number for number in range(4000) if is_audited(0.05, 3, number)]
    assert 150 < len(audited) < 250
    assert audited == [number for number in range(4000) if is_audited(0.05, 3, number)]
    assert audited != [number for number in range(4000) if is_audited(0.05, 4, number)]
    assert not any(is_audited(0.0, 0, number) for number in range(100))
    assert all(is_audited(1.0, 0, number) for number in range(100))
