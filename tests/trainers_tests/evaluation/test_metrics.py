"""Metrics against independent computations and at the points where their value is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from mano_trainers.evaluation import metrics


def official_auc(distances_m: np.ndarray) -> float:
    """Joint by joint, as FreiHAND's `EvalUtil.get_measures(0.0, 0.05, 100)` does."""
    thresholds = np.linspace(0.0, 0.05, 100)
    norm = np.trapezoid(np.ones_like(thresholds), thresholds)
    per_joint = []
    for joint in range(distances_m.shape[1]):
        pck = [np.mean((distances_m[:, joint] <= t).astype("float")) for t in thresholds]
        per_joint.append(np.trapezoid(pck, thresholds) / norm)
    return float(np.mean(per_joint))


def official_f_score(true: np.ndarray, predicted: np.ndarray, threshold: float) -> float:
    """As FreiHAND's `calculate_fscore`, with a k-d tree for Open3D's nearest distances."""
    d1, d2 = cKDTree(predicted).query(true)[0], cKDTree(true).query(predicted)[0]
    recall, precision = sum(d < threshold for d in d2) / len(d2), sum(d < threshold for d in d1) / len(d1)
    return 2 * recall * precision / (recall + precision) if recall + precision > 0 else 0.0


@given(seed=st.integers(0, 2**32 - 1), spread=st.floats(1e-4, 0.2))
def test_auc_equals_the_official_one(seed: int, spread: float) -> None:
    distances = np.abs(np.random.default_rng(seed).normal(scale=spread, size=(17, 21)))
    assert metrics.auc(distances) == pytest.approx(official_auc(distances), abs=1e-9)


def test_auc_is_one_for_no_error_and_zero_beyond_five_centimetres() -> None:
    assert metrics.auc(np.zeros((4, 21))) == pytest.approx(1.0)
    assert metrics.auc(np.full((4, 21), 0.051)) == 0.0


@pytest.mark.parametrize("noise_m", [0.0, 0.002, 0.01, 0.1])
def test_f_scores_equal_the_official_ones(noise_m: float) -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(scale=0.05, size=(3, 778, 3))
    predicted = true + noise_m * rng.normal(size=true.shape)
    for threshold, score in zip((0.005, 0.015), metrics.f_scores(predicted, true), strict=True):
        expected = np.mean([official_f_score(t, p, threshold) for t, p in zip(true, predicted, strict=True)])
        assert score == pytest.approx(expected, abs=1e-6)


def test_f_score_counts_only_strictly_nearer_points() -> None:
    true = np.zeros((1, 2, 3))
    moved = true + np.array([0.0, 0.0, 0.5])
    assert metrics.f_scores(moved, true, (0.5,)) == [0.0]
    assert metrics.f_scores(moved, true, (0.5000001,)) == [1.0]


def test_theta_spread_tells_perfect_collapsed_and_noisy_apart() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(4000, 45))
    perfect = metrics.theta_spread(true, true)
    assert (perfect["theta_var_ratio"], perfect["theta_r2"]) == (pytest.approx(1.0), 1.0)
    assert perfect["theta_variance_rad2"] == pytest.approx(true.var(axis=0).mean())
    assert (perfect["theta_min"], perfect["theta_max"]) == (true.min(), true.max())
    collapsed = metrics.theta_spread(np.tile(true.mean(0), (4000, 1)), true)
    assert collapsed["theta_var_ratio"] == pytest.approx(0.0, abs=1e-12)
    assert collapsed["theta_r2"] == pytest.approx(0.0, abs=1e-12)
    noise = metrics.theta_spread(rng.normal(size=true.shape), true)
    assert noise["theta_var_ratio"] == pytest.approx(1.0, abs=0.05)
    assert noise["theta_r2"] == pytest.approx(-1.0, abs=0.1)


def test_codebook_finds_separate_clusters_and_is_deterministic() -> None:
    rng = np.random.default_rng(0)
    centres = 5.0 * rng.normal(size=(32, 45))
    theta = np.repeat(centres, 20, axis=0) + 0.01 * rng.normal(size=(640, 45))
    codebook = metrics.fit_codebook(theta)
    assert codebook.shape == (32, 45)
    np.testing.assert_array_equal(codebook, metrics.fit_codebook(theta))
    code = metrics.nearest_code(theta, codebook)
    assert np.bincount(code, minlength=32).tolist() == [20] * 32
    assert metrics.entropy_bits(code, 32) == pytest.approx(5.0)


def test_codebook_of_fewer_poses_than_codes_has_one_code_per_pose() -> None:
    theta = np.random.default_rng(0).normal(size=(7, 45))
    codebook = metrics.fit_codebook(theta)
    assert sorted(metrics.nearest_code(theta, codebook).tolist()) == list(range(7))


def test_entropy_of_one_code_is_zero() -> None:
    assert metrics.entropy_bits(np.zeros(9, dtype=np.int64), 32) == 0.0


def hand(*extended: int) -> np.ndarray:
    """Joints (1, 21, 3) of a hand whose given fingers are straight and whose others are rolled into a square."""
    joints = np.zeros((21, 3))
    for finger in range(5):
        if finger in extended:
            bones = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0.5, 0]])
        else:
            bones = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
        joints[1 + 4 * finger : 5 + 4 * finger] = 0.03 * bones + [0.05, 0.02 * finger, 0]
    return joints[None]


def test_gesture_has_one_bit_per_finger_whatever_its_size_and_rotation() -> None:
    assert metrics.extended_fingers(hand()).tolist() == [0]
    assert metrics.extended_fingers(hand(0, 1, 2, 3, 4)).tolist() == [31]
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    assert metrics.extended_fingers(3.0 * hand(1, 2) @ rotation + 1.0).tolist() == [0b00110]


def test_macro_f1() -> None:
    true = np.array([0, 0, 1, 1])
    assert metrics.macro_f1(true, true) == 1.0
    # class 0: precision 2/3, recall 1, F1 0.8; class 1: precision 1, recall 1/2, F1 2/3
    assert metrics.macro_f1(np.array([0, 0, 0, 1]), true) == pytest.approx((0.8 + 2 / 3) / 2)
    assert metrics.macro_f1(np.array([7, 7, 7, 7]), true) == 0.0


def test_macro_f1_leaves_rare_classes_out() -> None:
    true = np.array([0] * 199 + [1])
    assert metrics.macro_f1(np.zeros(200, dtype=np.int64), true) == pytest.approx(2 * 199 / 399)
