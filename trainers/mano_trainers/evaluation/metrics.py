"""Metrics of predicted hands, in float64 numpy. Every function takes whole validation sets, not batches.

Shapes: N samples, J 21 joints in FreiHAND's order, V vertices, 45 theta values (rad, mean pose excluded).
"""

import numpy as np
import torch
from scipy.special import stdtr

from mano_trainers.arrays import Array, Integers

AUC_MAX_M, AUC_STEPS = 0.05, 100
ROUNDING = 1e-9
EXTENDED = 0.9
"""A finger counts as extended if its base-tip distance is over this share of its bones' total length."""


def p_of_smaller(errors: Array, others: Array) -> float:
    """One-sided p-value that the mean of `errors` is below that of `others`, measured on the same samples.

    Paired t-test on the differences, not a signed-rank test: `val/pa_mpjpe_mm` is a mean, and so is what the best
    constant pose minimises. A constant that is a little better on most images and much worse on the rest passes a
    signed-rank test, though it reads no image; by its mean it cannot pass.

    Args:
        errors: (N,) of the predictions.
        others: (N,) of what they are compared with.

    Returns:
        Between 0 and 1; 1 if nothing can be said: a single sample, or differences that are only rounding.
    """
    difference = errors - others
    if len(difference) < 2 or np.abs(difference).max() <= ROUNDING * np.abs(others).max():
        return 1.0
    mean, spread = difference.mean(), difference.std(ddof=1)
    if spread == 0.0:
        return float(mean > 0)
    return float(stdtr(len(difference) - 1, mean / (spread / np.sqrt(len(difference)))))


def auc(distances_m: Array) -> float:
    """Area under the curve of correct keypoints, as in FreiHAND's official evaluation.

    For each joint the share of samples with distance <= t, integrated by the trapezoid rule over 100 thresholds from
    0 to 0.05 m, divided by the range; then the mean over joints.

    Args:
        distances_m: (N, J) in metres.

    Returns:
        Between 0 and 1.
    """
    thresholds = np.linspace(0.0, AUC_MAX_M, AUC_STEPS)
    within = (distances_m[None] <= thresholds[:, None, None]).mean(axis=(1, 2))
    return float(np.trapezoid(within, thresholds) / AUC_MAX_M)


def f_scores(predicted_m: Array, true_m: Array, thresholds_m: tuple[float, ...] = (0.005, 0.015)) -> list[float]:
    """Mean F-score of vertex sets at each threshold, as in FreiHAND's official evaluation.

    A vertex is right if its nearest vertex of the other mesh is strictly nearer than the threshold. Recall counts the
    predicted vertices, precision the true ones, as the official code has it; F is symmetric in the two.

    Args:
        predicted_m: (N, V, 3) in metres, aligned already for the aligned score.
        true_m: (N, V, 3) in metres.
        thresholds_m: the thresholds in metres; 0.005 is F@5, 0.015 is F@15.

    Returns:
        One score between 0 and 1 for each threshold.
    """
    nearest_predicted, nearest_true = np.empty(predicted_m.shape[:2]), np.empty(true_m.shape[:2])
    for i, meshes in enumerate(zip(predicted_m, true_m, strict=True)):
        predicted, true = (torch.from_numpy(mesh - meshes[1].mean(0)) for mesh in meshes)
        ones = torch.ones(len(predicted), 1, dtype=torch.float64)
        # |p - t|^2 = |p|^2 + |t|^2 - 2pt as one matrix product: rounding is 1e-8 m in float64, far below a threshold.
        squared = torch.hstack((predicted, predicted.square().sum(1, keepdim=True), ones)) @ (
            torch.hstack((-2 * true, ones, true.square().sum(1, keepdim=True))).T
        )
        nearest_predicted[i] = squared.amin(1).clamp_min(0).sqrt().numpy()
        nearest_true[i] = squared.amin(0).clamp_min(0).sqrt().numpy()
    scores = []
    for threshold in thresholds_m:
        recall, precision = (nearest_predicted < threshold).mean(1), (nearest_true < threshold).mean(1)
        both = recall + precision
        scores.append(float((2 * recall * precision / np.where(both > 0, both, 1.0)).mean()))
    return scores


def theta_spread(theta: Array, theta_true: Array) -> dict[str, float]:
    """How much predictions spread, and how much of the labels' spread they explain.

    A collapsed model has ratio and R^2 near 0; noise has a ratio near 1 and R^2 below 0. For an ideal regressor the
    ratio equals the attainable R^2, so 1 is not its target.

    Args:
        theta: (N, 45) predictions, rad.
        theta_true: (N, 45) labels, rad.

    Returns:
        theta_variance_rad2 (mean over the 45 values of the variance over samples), theta_var_ratio (sum of variances
        over that of the labels), theta_r2, theta_min and theta_max (rad).
    """
    variance, variance_true = theta.var(axis=0), theta_true.var(axis=0)
    total = variance_true.sum() * len(theta_true)
    return {
        "theta_variance_rad2": float(variance.mean()),
        "theta_var_ratio": float(variance.sum() / variance_true.sum()),
        "theta_r2": float(1.0 - np.square(theta_true - theta).sum() / total),
        "theta_min": float(theta.min()),
        "theta_max": float(theta.max()),
    }


def fit_codebook(theta: Array, size: int = 32, rounds: int = 20) -> Array:
    """Representative poses: k-means centres, the same for the same input.

    Starts from the pose nearest to the mean and then always the one farthest from those chosen; no randomness.

    Args:
        theta: (N, 45) training labels, rad.
        size: number of poses, at most N.
        rounds: iterations of Lloyd's algorithm.

    Returns:
        (min(size, N), 45) rad.
    """
    chosen = [int(np.square(theta - theta.mean(0)).sum(1).argmin())]
    nearest = np.square(theta - theta[chosen[0]]).sum(1)
    for _ in range(min(size, len(theta)) - 1):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.square(theta - theta[chosen[-1]]).sum(1))
    centres = theta[chosen]
    for _ in range(rounds):
        code = nearest_code(theta, centres)
        centres = np.stack(
            [theta[code == k].mean(0) if (code == k).any() else centre for k, centre in enumerate(centres)]
        )
    return centres


def nearest_code(theta: Array, codebook: Array) -> Integers:
    """Index (N,) of the codebook pose (K, 45) nearest to each theta (N, 45)."""
    squared = np.square(codebook).sum(1) - 2.0 * theta @ codebook.T
    index: Integers = squared.argmin(1)
    return index


def entropy_bits(code: Integers, size: int) -> float:
    """Entropy in bits of how often each of `size` codes occurs: 0 if all samples share one, log2(size) if uniform."""
    share = np.bincount(code, minlength=size) / len(code)
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum()) + 0.0


def extended_fingers(joints_m: Array) -> Integers:
    """Gesture (N,) of hands as a number of five bits, one per finger (thumb 1, pinky 16), set if it is extended.

    A finger is extended if the distance from its base to its tip is over 0.9 of the total length of its bones: a
    ratio, so neither size nor rotation of the hand changes it.

    Args:
        joints_m: (N, 21, 3) in FreiHAND's order, any frame and unit.
    """
    fingers = joints_m[:, 1:].reshape(-1, 5, 4, 3)
    length = np.linalg.norm(np.diff(fingers, axis=2), axis=-1).sum(-1)
    reach = np.linalg.norm(fingers[:, :, 3] - fingers[:, :, 0], axis=-1)
    gesture: Integers = ((reach > EXTENDED * length) * (1 << np.arange(5))).sum(1)
    return gesture


def macro_f1(predicted: Integers, true: Integers, min_share: float = 0.01) -> float:
    """F1 score averaged over the classes that make up at least `min_share` of the truth.

    Rarer classes would move the mean by chance.

    Args:
        predicted: (N,) class of each prediction.
        true: (N,) class of each label.
        min_share: between 0 and 1.
    """
    classes, counts = np.unique(true, return_counts=True)
    scores = []
    for label in classes[counts >= min_share * len(true)]:
        hits = ((predicted == label) & (true == label)).sum()
        scores.append(2.0 * hits / ((predicted == label).sum() + (true == label).sum()))
    return float(np.mean(scores))
