"""Several objectives at a rung: which trials are kept when each is better in one and worse in another."""

import math
from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from studies import OBJECTIVE, make_spec, message, start

from sweeper.analysis.explain import rungs_of
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.pruning.asha import judge_at_rung
from sweeper.pruning.domination import dominates, fronts, order
from sweeper.pruning.rungs import Rungs
from sweeper.study.controller import StudyController

R2 = "val/theta_r2"
TWO = [{"metric": OBJECTIVE, "mode": "min"}, {"metric": R2, "mode": "max"}]
points = st.integers(2, 3).flatmap(
    lambda several: st.lists(st.tuples(*[st.integers(0, 6).map(float)] * several), min_size=1, max_size=14)
)
single = st.lists(st.tuples(st.floats(-9, 9)), min_size=1, max_size=12)


@given(points)
def test_a_front_is_dominated_only_by_earlier_fronts(all_points: list[tuple[float, ...]]) -> None:
    left = set(all_points)
    for front in fronts(all_points):
        assert set(front) == {point for point in left if not any(dominates(other, point) for other in left)}
        left -= set(front)
    assert not left


@given(points, st.integers(2, 4), st.integers(0, 1))
def test_no_trial_survives_one_that_dominates_it(all_points: list[tuple[float, ...]], eta: int, at_least: int) -> None:
    results = [judge_at_rung(1, point, all_points, eta, "min", at_least) for point in all_points]
    for point, result in zip(all_points, results, strict=True):
        better = [r for other, r in zip(all_points, results, strict=True) if dominates(other, point)]
        assert all(other.rank < result.rank for other in better)
        assert all(other.keep for other in better) or not result.keep
    kept = [point for point, result in zip(all_points, results, strict=True) if result.keep]
    places = max(at_least, len(all_points) // eta)
    assert min(places, len(kept)) == places
    assert len(set(kept)) <= places, "more than its places are kept for equal trials only"


@given(points, st.integers(0, 1000))
def test_the_order_does_not_depend_on_which_trial_came_first(all_points: list[tuple[float, ...]], seed: int) -> None:
    shuffled = Random(seed).sample(all_points, len(all_points))
    assert order(shuffled) == order(all_points)
    best = min(order(all_points), key=order(all_points).__getitem__)
    assert best == min(all_points), "what is best in the first objective is never stopped for the others"


@given(single, st.integers(2, 4))
def test_one_objective_ranks_by_its_value(all_points: list[tuple[float]], eta: int) -> None:
    assert sorted(set(all_points)) == sorted(set(all_points), key=order(all_points).__getitem__)
    result = judge_at_rung(1, all_points[0], all_points, eta, "max")
    assert result.keep == (sum(other < all_points[0] for other in all_points) < max(1, len(all_points) // eta))
    assert not result.evidence.keys() & {"front", "further"}


def test_within_a_front_the_ends_come_first_and_then_the_least_crowded() -> None:
    crowded = [(0.0, 10.0), (1.0, 9.0), (2.0, 8.0), (6.0, 4.0), (10.0, 0.0)]
    keys = order([*crowded, (7.0, 9.0)])
    assert sorted(keys, key=keys.__getitem__) == [
        (0.0, 10.0),
        (10.0, 0.0),
        (6.0, 4.0),
        (2.0, 8.0),
        (1.0, 9.0),
        (7.0, 9.0),
    ]


curves = st.lists(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4) | st.just(math.nan)), min_size=1, max_size=5),
    min_size=1,
    max_size=8,
)


@given(curves, st.integers(0, 1000))
def test_ranks_are_the_same_after_a_restart(values: list[list[tuple[int, float]]], seed: int) -> None:
    """Reports that arrive one by one, interleaved, rank as if the whole ledger were read at once."""
    spec = make_spec(objective=TWO, scheduler={"grace_epochs": 1, "mode": "promote"})
    told = {f"toy-{number}": 8.0 for number in range(len(values))}
    one_by_one, at_once = Rungs(spec, told), Rungs(spec, told)
    records = {number: TrialRecord(f"toy-{number}", number, {}) for number in range(len(values))}
    turns = [number for number, curve in enumerate(values) for _ in curve]
    for number in Random(seed).sample(turns, len(turns)):
        known = records[number].reports
        error, r2 = values[number][len(known)]
        report = Report(len(known) + 1, len(known) + 1.0, {OBJECTIVE: float(error), R2: r2}, None, 0)
        records[number] = TrialRecord(f"toy-{number}", number, {}, TrialState.RUNNING, reports=(*known, report))
        one_by_one.update(records[number])
    for record in records.values():
        at_once.update(record)
    assert [one_by_one.judge_latest(record) for record in records.values()] == [
        at_once.judge_latest(record) for record in records.values()
    ]


def test_a_study_keeps_a_trial_that_the_first_objective_alone_would_stop(tmp_path: Path) -> None:
    spec = make_spec(objective=TWO, scheduler={"grace_epochs": 1})
    study = StudyController(spec, Ledger.create(tmp_path, "toy", modes=["min", "max"]), [])
    kept = []
    for error, r2 in ((10.0, 0.2), (21.0, 0.5), (15.0, 0.1), (20.0, 0.6)):
        trial_id = start(study)
        kept.append(study.on_report(trial_id, message(1, error, r2)))
    assert kept == [True, False, False, True], "by the first objective alone the last would be the third of four"
    records = study.ledger.trials()
    reason = "rank 3 of 3 at epoch 1 by all objectives, in front 2: at best val/pa_mpjpe_mm 15.00, val/theta_r2 0.1"
    assert records[2].reason == reason
    assert (records[2].evidence["front"], records[2].evidence["rank"]) == (2, 3)
    [found] = rungs_of(spec, records[2], records[:2])
    assert (found.rank, found.of, found.front) == (3, 3, 2)
