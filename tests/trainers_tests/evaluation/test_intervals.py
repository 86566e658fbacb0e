"""Intervals and skill on samples that are alike."""

import numpy as np
import pytest

from mano_trainers.evaluation.intervals import interval, p_of_order
from mano_trainers.evaluation.metrics import Array, p_of_smaller

RECORDINGS, FRAMES = 10, 30


def recordings(seed: int) -> Array:
    """Slow movements (RECORDINGS * FRAMES,): neighbouring frames are nearly the same, recordings are not."""
    random = np.random.default_rng(seed)
    moved = np.empty((RECORDINGS, FRAMES))
    moved[:, 0] = random.normal(size=RECORDINGS)
    for frame in range(1, FRAMES):
        moved[:, frame] = 0.9 * moved[:, frame - 1] + np.sqrt(1 - 0.9**2) * random.normal(size=RECORDINGS)
    return (moved + random.normal(size=(RECORDINGS, 1))).reshape(-1)


GROUPS = np.repeat(np.arange(RECORDINGS), FRAMES)


def p_values(predicted: Array, true: Array) -> tuple[float, float]:
    """Of the paired t-test against the constant prediction of training, and of the order."""
    p = p_of_smaller(np.abs(predicted - true), np.abs(true))
    return p, p_of_order(lambda order: float(np.abs(predicted[order] - true).mean()), GROUPS)


def test_skill_on_recordings_is_not_found_where_there_is_none() -> None:
    """Models that read no image, but whose mean prediction happens to lie nearer to the held-out recordings."""
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


def test_one_prediction_for_all_has_no_skill() -> None:
    true = recordings(3)
    assert p_of_order(lambda order: float(np.abs(true[0] * 0 - true).mean()), GROUPS) == 1.0
    assert p_of_order(lambda order: 1.0, np.zeros(1, dtype=np.int64)) == 1.0


def test_an_interval_of_groups_is_as_wide_as_what_they_have_in_common() -> None:
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
