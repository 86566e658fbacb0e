"""Similarity alignment as FreiHAND's official evaluation does it, for a whole batch at once, in float64."""

from collections.abc import Callable

import numpy as np

from mano_trainers.arrays import Array


def similarity(predicted: Array, true: Array) -> tuple[Array, Array]:
    """Scale and rotation that lay each centred predicted point set on the centred true one.

    Follows `align_w_scale` of lmb-freiburg/freihand `eval.py`: divide both by their Frobenius norm + 1e-8, solve the
    orthogonal Procrustes problem *with reflections allowed*, scale by the sum of the singular values and by the norms.

    Args:
        predicted: (N, P, 3), any unit, or (1, P, 3) for one prediction for all.
        true: (N, P, 3), any unit.

    Returns:
        scale (N, 1, 1) and rotation (N, 3, 3): `scale * centred @ rotation.T` is the aligned, centred prediction.
    """
    centred = predicted - predicted.mean(1, keepdims=True)
    centred_true = true - true.mean(1, keepdims=True)
    norm = np.linalg.norm(centred, axis=(1, 2), keepdims=True) + 1e-8
    true_norm = np.linalg.norm(centred_true, axis=(1, 2), keepdims=True) + 1e-8
    u, singular, vt = np.linalg.svd((centred_true / true_norm).transpose(0, 2, 1) @ (centred / norm))
    return singular.sum(-1)[:, None, None] * true_norm / norm, u @ vt


def align(predicted: Array, true: Array) -> Array:
    """The predicted point sets (N, P, 3), scaled, turned and shifted onto the true ones, in the unit of `true`."""
    return laid_on(predicted, true, *similarity(predicted, true))


def laid_on(predicted: Array, true: Array, scale: Array, rotation: Array) -> Array:
    """As `align`, by the `scale` (N, 1, 1) and `rotation` (N, 3, 3) of `similarity`."""
    centred = predicted - predicted.mean(1, keepdims=True)
    aligned: Array = scale * centred @ rotation.transpose(0, 2, 1) + true.mean(1, keepdims=True)
    return aligned


def aligned_distances(predicted: Array, true: Array, align: Callable[[Array, Array], Array] = align) -> Array:
    """Distance (N, P) of each point after `align`, in the unit of `true`."""
    distances: Array = np.linalg.norm(align(predicted, true) - true, axis=-1)
    return distances
