"""Intervals and skill on samples that resemble each other."""

import numpy as np
import pytest

from mano_trainers.arrays import Array, Integers
from mano_trainers.evaluation.intervals import MOST_ORDERED, ORDERS, interval, p_of_order
from mano_trainers.evaluation.metrics import p_of_smaller

RECORDINGS, FRAMES = 10, 30


def recordings(seed: int, count: int = RECORDINGS) -> Array:
    """Slow movements (count * FRAMES,): neighbouring frames are nearly the same, recordings are not."""
    random = np.random.default_rng(seed)
    moved = np.empty((count, FRAMES))
    moved[:, 0] = random.normal(size=count)
    for frame in range(1, FRAMES):
        moved[:, frame] = 0.9 * moved[:, frame - 1] + np.sqrt(1 - 0.9**2) * random.normal(size=count)
    return (moved + random.normal(size=(count, 1))).reshape(-1)


def p_values(predicted: Array, true: Array) -> tuple[float, float]:
    """p of the paired t-test against the constant prediction of training, and p of the order."""
    p = p_of_smaller(np.abs(predicted - true), np.abs(true))
    groups = np.arange(len(true)) // FRAMES
    return p, p_of_order(lambda rows, of: float(np.abs(predicted[rows] - true[of]).mean()), groups)


def test_skill_on_recordings_is_not_found_where_there_is_none() -> None:
    """Models that read no image, but whose mean prediction happens to be nearer to the held-out recordings."""
    random = np.random.default_rng(0)
    p = [p_values(0.3 * random.normal() + 0.1 * recordings(seed), recordings(1000 + seed)) for seed in range(60)]
    found = np.array(p) < 0.05
    assert found[:, 0].mean() > 0.1, "frames taken for independent: the reason for the other test"
    assert found.all(1).mean() < 0.06


def test_skill_on_recordings_is_found_where_there_is_some() -> None:
    found = []
    for seed in range(30):
        true = recordings(seed)
        noise = recordings(500 + seed)
        found.append(p_values(0.7 * true + 0.3 * noise, true)[1] < 0.05)
    assert np.mean(found) > 0.9


def test_some_of_many_recordings_give_the_same_answer() -> None:
    many = 100
    false, found = [], []
    for seed in range(60):
        true, other = recordings(seed, many), recordings(1000 + seed, many)
        false.append(p_values(other, true)[1] < 0.05)
        found.append(p_values(0.3 * true + 0.7 * other, true)[1] < 0.05)
    assert np.mean(false) < 0.15  # 0.05 expected: 9 or more of 60 happen once in 700 times
    assert np.mean(found) > 0.95


@pytest.mark.parametrize(("recordings_", "frames"), [(9000, 1), (9000, 3), (300, 30), (10, 3000)])
def test_no_more_samples_are_reordered_than_training_can_wait_for(recordings_: int, frames: int) -> None:
    seen: list[Integers] = []

    def error_of(rows: Integers, of: Integers) -> float:
        seen.extend((rows, of))
        return float(rows @ of)

    p_of_order(error_of, np.repeat(np.arange(recordings_), frames))
    assert len(seen) == 2 * (ORDERS + 1)
    rows, of = seen[-2:]
    assert 0.9 * MOST_ORDERED < len(of) < 1.1 * MOST_ORDERED
    assert sorted(rows) == of.tolist()
    if frames > 8:
        assert (rows // frames == of // frames).all(), "a recording's predictions stay its own"
        assert np.bincount(of // frames)[of // frames].min() >= 8
        assert (np.diff(of) > 1).any(), "from all over"


def test_one_prediction_for_all_has_no_skill() -> None:
    true = recordings(3)
    assert p_of_order(lambda _, of: float(np.abs(true[of]).mean()), np.arange(len(true)) // FRAMES) == 1.0
    assert p_of_order(lambda *_: 1.0, np.zeros(1, dtype=np.int64)) == 1.0


def test_an_interval_over_groups_allows_for_what_their_samples_share() -> None:
    random = np.random.default_rng(0)
    covered, alone = [], []
    for _ in range(40):
        errors = (5 + random.normal(size=(40, 1)) + 0.1 * random.normal(size=(40, 10))).reshape(-1)
        low, high = interval(errors, np.repeat(np.arange(40), 10))
        covered.append(low <= 5 <= high)
        low, high = interval(errors, np.arange(400))
        alone.append(low <= 5 <= high)
    assert np.mean(covered) == pytest.approx(0.94, abs=0.1)
    assert np.mean(alone) < 0.7


def test_one_group_has_no_interval() -> None:
    low, high = interval(np.ones(5), np.zeros(5, dtype=np.int64))
    assert (low, high) == (-np.inf, np.inf)
