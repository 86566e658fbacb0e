"""Does the metric measure? Known errors are put into the evaluation that training uses, and must come out.

All but the first check hand joints to the evaluation directly, so neither labels nor hand layer affect them.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from mano_trainers.arrays import Array
from mano_trainers.evaluation.evaluate import Outputs, evaluate
from mano_trainers.hand.model import FREIHAND_ORDER
from mano_trainers.preflight.subject import Subject, verdict
from mano_trainers.report import CheckResult
from mano_trainers.rotations import matrix_from_axis_angle

EXACT_MM = 0.1
"""A score of zero, but for labels that are rounded or stored as float32."""
KNOWN_MM = 2.0
KNOWN_TOLERANCE = 0.03
NOTICED_MM = 10.0
SMALLEST_TRUTH = 0.999
"""Of metrics that are 1 for the truth."""


def check_metrics(subject: Subject) -> Iterator[CheckResult]:
    """Truth, similar copies, errors of known size, and joints in another order."""
    yield _truth(subject)
    yield _similarity(subject)
    yield _perturbation(subject)
    yield _joint_order(subject)


def _truth(subject: Subject) -> CheckResult:
    pipeline = subject.pipeline
    labels, val = pipeline.data.labels, pipeline.data.val_poses
    scores = evaluate(pipeline.reference, Outputs(labels.theta[val], labels.betas[val]))
    errors_mm = [scores[f"val/{name}_mm"] for name in ("mpjpe", "pa_mpjpe", "pa_mpvpe")]
    ones = {name: scores[f"val/{name}"] for name in ("theta_r2", "theta_var_ratio", "f15")}
    return verdict(
        "metric.truth",
        max(errors_mm) < EXACT_MM and min(ones.values()) > SMALLEST_TRUTH,
        f"the labels as prediction score {errors_mm[1]:.2f} mm aligned, {errors_mm[0]:.2f} mm unaligned, r2 "
        f"{ones['theta_r2']:.3f}",
        f"below {EXACT_MM} mm, r2 1",
        "no model can score better than this: fix labels, hand layer, joint order or alignment before training",
    )


def _similarity(subject: Subject) -> CheckResult:
    joints_m = subject.pipeline.reference.joints_m
    random = np.random.default_rng(0)
    axis_angle = torch.from_numpy(random.normal(size=(len(joints_m), 3)))
    rotation = matrix_from_axis_angle(axis_angle).numpy()
    scale = random.uniform(0.5, 2.0, (len(joints_m), 1, 1))
    moved = scale * joints_m @ rotation.transpose(0, 2, 1) + random.normal(0.0, 0.5, (len(joints_m), 1, 3))
    aligned_mm, unaligned_mm = _scores_mm(subject, moved)
    return verdict(
        "metric.similarity",
        aligned_mm < EXACT_MM and unaligned_mm > NOTICED_MM,
        f"true joints scaled, turned and shifted score {aligned_mm:.2f} mm aligned, {unaligned_mm:.0f} mm unaligned",
        f"below {EXACT_MM} mm aligned, over {NOTICED_MM:g} mm unaligned",
        "the alignment is wrong: scale is the sum of singular values over the squared norm, and the rotation must not "
        "be transposed; such a metric gives every prediction the same score",
    )


def _perturbation(subject: Subject) -> CheckResult:
    joints_m = subject.pipeline.reference.joints_m
    noise = _noise_no_similarity_removes(joints_m)
    noise *= KNOWN_MM / 1000 / np.linalg.norm(noise, axis=-1).mean()
    aligned_mm, unaligned_mm = _scores_mm(subject, joints_m + noise)
    off = max(abs(aligned_mm / KNOWN_MM - 1), abs(unaligned_mm / KNOWN_MM - 1))
    return verdict(
        "metric.perturbation",
        off < KNOWN_TOLERANCE,
        f"an error of {KNOWN_MM:.2f} mm scores {aligned_mm:.2f} mm aligned, {unaligned_mm:.2f} mm unaligned",
        f"{KNOWN_MM:.2f} mm, to {KNOWN_TOLERANCE:.0%}",
        "the metric has another unit, another mean, or an alignment that is not the best one",
    )


def _joint_order(subject: Subject) -> CheckResult:
    joints_m = subject.pipeline.reference.joints_m
    aligned_mm, _ = _scores_mm(subject, joints_m[:, np.argsort(FREIHAND_ORDER)])
    perfect_mm, _ = _scores_mm(subject, joints_m)
    return verdict(
        "metric.joint_order",
        aligned_mm > perfect_mm + NOTICED_MM,
        f"true joints in MANO's order score {aligned_mm:.1f} mm, in FreiHAND's {perfect_mm:.1f} mm",
        f"over {NOTICED_MM:g} mm more in the wrong order",
        "the metric does not see which joint is which: it sorts, matches or ignores the joints it compares",
    )


def _scores_mm(subject: Subject, joints_m: Array) -> tuple[float, float]:
    """Aligned and unaligned score of joints (N, 21, 3) predicted for the validation images, by the real evaluation."""
    labels, val = subject.pipeline.data.labels, subject.pipeline.data.val_poses
    outputs = Outputs(labels.theta[val], labels.betas[val], joints_m=joints_m)
    reference = subject.pipeline.reference
    scores = evaluate(replace(reference, verts_m=reference.verts_m[:1]), outputs)  # meshes are slow, and not looked at
    return scores["val/joints_pa_mpjpe_mm"], scores["val/joints_mpjpe_mm"]


def _noise_no_similarity_removes(joints_m: Array) -> Array:
    """Random displacements (N, 21, 3), orthogonal to every small shift, turn and scaling of the joints.

    So alignment takes nothing off them, to first order, and the aligned error is their own size.
    """
    count = len(joints_m)
    centred = joints_m - joints_m.mean(1, keepdims=True)
    shifts = np.broadcast_to(np.eye(3)[:, None, :], (count, 3, 21, 3))
    turns = np.stack([np.cross(axis, centred) for axis in np.eye(3)], axis=1)
    motions = np.concatenate([shifts, turns, centred[:, None]], axis=1).reshape(count, 7, 63)
    basis, _ = np.linalg.qr(motions.transpose(0, 2, 1))  # (N, 63, 7)
    noise = np.random.default_rng(1).normal(size=(count, 63, 1))
    left: Array = (noise - basis @ (basis.transpose(0, 2, 1) @ noise)).reshape(count, 21, 3)
    return left
