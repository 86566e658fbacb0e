"""The alignment against a literal numpy and scipy copy of what FreiHAND's official evaluation computes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes

from mano_trainers.evaluation.procrustes import align, aligned_distances


def official_align(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """One point set at a time, as the official `align_w_scale` goes about it."""
    true_mean, predicted_mean = true.mean(0), predicted.mean(0)
    true_centred, predicted_centred = true - true_mean, predicted - predicted_mean
    s1 = np.linalg.norm(true_centred) + 1e-8
    s2 = np.linalg.norm(predicted_centred) + 1e-8
    true_unit, predicted_unit = true_centred / s1, predicted_centred / s2
    rotation, s = orthogonal_procrustes(true_unit, predicted_unit)
    return np.dot(predicted_unit, rotation.T) * s * s1 + true_mean


@given(seed=st.integers(0, 2**32 - 1), points=st.integers(4, 40), noise=st.floats(0, 1), scale=st.floats(0.01, 100))
def test_equals_the_official_alignment(seed: int, points: int, noise: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(3, points, 3)) * 0.1
    mixture = rng.normal(size=(3, 3))  # with negative determinant half of the time: a reflection
    predicted = scale * (true @ mixture + noise * rng.normal(size=true.shape)) + rng.normal(size=(3, 1, 3))
    expected = np.stack([official_align(t, p) for t, p in zip(true, predicted, strict=True)])
    np.testing.assert_allclose(align(predicted, true), expected, atol=1e-6, rtol=0)


def test_undoes_scale_rotation_shift_and_reflection() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(5, 21, 3))
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    for mirror in (np.diag([1.0, 1, 1]), np.diag([-1.0, 1, 1])):
        predicted = 7.0 * true @ mirror @ rotation + 3.0
        assert aligned_distances(predicted, true).max() < 1e-6


@pytest.mark.parametrize(
    "shape",
    [
        np.zeros((21, 3)),
        np.outer(np.arange(21.0), [1, 2, 3]),
        np.c_[np.random.default_rng(0).normal(size=(21, 2)), np.zeros(21)],
    ],
    ids=["a point", "a line", "a plane"],
)
def test_degenerate_predictions_have_the_official_error(shape: np.ndarray) -> None:
    true = np.random.default_rng(1).normal(size=(1, 21, 3))
    expected = np.linalg.norm(official_align(true[0], shape) - true[0], axis=-1)
    np.testing.assert_allclose(aligned_distances(shape[None], true)[0], expected, atol=1e-6)
