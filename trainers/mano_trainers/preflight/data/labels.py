"""Do stored parameters, stored joints and the pipeline's hand belong together, and are the numbers those of hands?"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from mano_trainers.arrays import Array
from mano_trainers.data.readers.labels import Labels, joints_in_wrist_frame
from mano_trainers.data.verify import LARGEST_ERROR_MM
from mano_trainers.evaluation.procrustes import aligned_distances, similarity
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.load import load_hand
from mano_trainers.losses.terms import wrist_joints
from mano_trainers.preflight.subject import Subject, verdict
from mano_trainers.report import CheckResult

BEND_RAD2 = (1e-3, 3.0)
"""Mean variance of a theta value: less means poses that do not vary, more are not radians."""
LARGEST_ANGLE_RAD = 2 * np.pi
LARGEST_BETA = 10.0
HAND_M = (0.12, 0.26)
"""Length of the bones from wrist to the middle finger's tip: from a child's to a giant's."""
SCALE_TOLERANCE = 0.1
MIRROR_FITS_MM = 5.0
"""A hand that fits only as a mirror image, but then so well, is one."""


@dataclass(frozen=True)
class Reading:
    """One way to understand the stored parameters: what it is called, and the pose it means."""

    name: str
    theta: Array
    betas: Array


def check_labels(subject: Subject) -> Iterator[CheckResult]:
    """Numbers, units, kinematics, mean pose, joint order and side of the labels as the pipeline has read them."""
    yield _values(subject)
    yield _units(subject)
    yield from _kinematics(subject)
    yield _handedness(subject)


def _values(subject: Subject) -> CheckResult:
    labels, train = subject.pipeline.data.labels, subject.pipeline.data.train_poses
    theta, betas = labels.theta[train], labels.betas[train]
    parts = (theta, betas, labels.global_orient[train], labels.joints_m[train], labels.intrinsics[train])
    broken = sum(int((~np.isfinite(part)).sum()) for part in parts)
    variance = theta.var(axis=0)
    angle = np.linalg.norm(theta.reshape(-1, 3), axis=-1)
    constant = int((variance < 1e-12).sum())
    sound = (
        broken == 0
        and constant == 0
        and BEND_RAD2[0] < variance.mean() < BEND_RAD2[1]
        and float(np.quantile(angle, 0.999)) < LARGEST_ANGLE_RAD
        and float(np.abs(betas).max(initial=0.0)) < LARGEST_BETA
    )
    return verdict(
        "labels.values",
        sound,
        f"{broken} not finite, {constant} of 45 theta values constant, mean variance {variance.mean():.3g} rad2, "
        f"largest angle {angle.max():.2f} rad, largest shape {np.abs(betas).max(initial=0.0):.1f}",
        f"none, none, {BEND_RAD2[0]:g} to {BEND_RAD2[1]:g} rad2, below {LARGEST_ANGLE_RAD:.1f} rad, below "
        f"{LARGEST_BETA:g}",
        "theta is 45 axis-angle values in rad, one of each pose; degrees, padding or a truncated file look like this",
    )


def _units(subject: Subject) -> CheckResult:
    joints_m = subject.pipeline.data.labels.joints_m[subject.poses]
    length_m, of_hand_m = (_middle_finger_m(points) for points in (joints_m, _computed(subject, *_stored(subject))))
    ratio = length_m / of_hand_m
    in_front = float((joints_m[..., 2] > 0).mean())
    return verdict(
        "labels.units",
        HAND_M[0] < length_m < HAND_M[1] and abs(ratio - 1) < SCALE_TOLERANCE and in_front == 1.0,
        f"wrist to middle fingertip {length_m:.3g} m, {ratio:.3f} times the parameters' hand; {in_front:.0%} in front "
        "of the camera",
        f"{HAND_M[0]} to {HAND_M[1]} m, 1 to {SCALE_TOLERANCE:.0%}; 100%",
        "joints are in metres, in the camera's frame with z away from it; divide millimetres by 1000",
    )


def _middle_finger_m(joints_m: Array) -> float:
    """Length of the bones from the wrist to the tip of the middle finger, which no pose changes; of the median hand."""
    bones = np.diff(joints_m[:, [0, 9, 10, 11, 12]], axis=1)
    return float(np.median(np.linalg.norm(bones, axis=-1).sum(axis=1)))


def _kinematics(subject: Subject) -> Iterator[CheckResult]:
    """Joints of the parameters against stored joints, and which misunderstanding explains a difference."""
    labels = subject.pipeline.data.labels
    true = joints_in_wrist_frame(labels)[subject.poses]
    theta, betas = _stored(subject)
    computed = _computed(subject, theta, betas)
    errors_mm = 1000 * np.linalg.norm(computed - true, axis=-1)
    yield verdict(
        "labels.kinematics",
        bool(errors_mm.max() < LARGEST_ERROR_MM),
        f"joints of the parameters are {errors_mm.mean():.3g} mm (at most {errors_mm.max():.3g}) from the stored ones",
        f"at most {LARGEST_ERROR_MM:g} mm",
        _explanation(subject, theta, betas, true, float(errors_mm.mean())),
    )
    yield _mean_pose(subject, theta, betas, true)
    yield _joint_order(computed, true)


def _mean_pose(subject: Subject, theta: Array, betas: Array, true: Array) -> CheckResult:
    """The bend that the pipeline's hand adds to theta, against that of the hand's own file."""
    own = load_hand(subject.pipeline.config.data.hand).hands_mean
    added = subject.pipeline.reference.hand.mean_pose.numpy()
    missing_deg = np.rad2deg(float(np.linalg.norm((own - added).reshape(15, 3), axis=-1).mean()))
    errors_mm = {
        name: float(1000 * np.linalg.norm(_computed(subject, theta + offset, betas) - true, axis=-1).mean())
        for name, offset in (("as it is", np.zeros(45)), ("with the mean pose", own), ("without it", -own))
    }
    best = min(errors_mm, key=lambda name: errors_mm[name])
    fits = best == "as it is" or errors_mm[best] > 0.8 * errors_mm["as it is"] or errors_mm["as it is"] < 1.0
    return verdict(
        "labels.mean_pose",
        missing_deg < 0.1 and fits,
        f"the hand layer leaves out {missing_deg:.1f} degrees of the mean pose a joint; theta fits best {best} "
        f"({errors_mm[best]:.2f} mm)",
        "0.0 degrees, as it is",
        "theta excludes the mean pose: the hand layer adds hands_mean before it turns the joints (flat_hand_mean "
        "False), and only there",
    )


def _joint_order(computed: Array, true: Array) -> CheckResult:
    """Which stored joint lies nearest to each computed one, over all poses."""
    computed, true = (points - points.mean(1, keepdims=True) for points in (computed, true))
    distance_mm = 1000 * np.linalg.norm(computed[:, :, None] - true[:, None], axis=-1).mean(axis=0)  # (21, 21)
    nearest = distance_mm.argmin(axis=1)
    moved = int((nearest != np.arange(21)).sum())
    kept_mm, best_mm = float(np.diag(distance_mm).mean()), float(distance_mm.min(axis=1).mean())
    return verdict(
        "labels.joint_order",
        moved == 0 or best_mm > 0.7 * kept_mm,
        f"{moved} of 21 joints are nearer to another joint's place ({kept_mm:.1f} mm as they are, {best_mm:.1f} mm in "
        "the best order)",
        "0",
        f"reorder one side: the stored joint for each of the hand's is {nearest.tolist()}; FreiHAND's order is wrist, "
        "then thumb to pinky from base to tip, MANO's has the thumb last and the tips at the end",
    )


def _handedness(subject: Subject) -> CheckResult:
    true = joints_in_wrist_frame(subject.pipeline.data.labels)[subject.poses]
    computed = _computed(subject, *_stored(subject))
    _, rotation = similarity(computed, true)  # reflections allowed
    fits_mm = 1000 * aligned_distances(computed, true).mean(1)
    mirrored = float(((np.linalg.det(rotation) < 0) & (fits_mm < MIRROR_FITS_MM)).mean())
    return verdict(
        "labels.handedness",
        mirrored < 0.05,
        f"{mirrored:.0%} of the stored hands are mirror images of their parameters'",
        "below 5%",
        "all hands are right hands: mirror a left one's image, x of its joints, and y and z of its axis-angles",
    )


def _explanation(subject: Subject, theta: Array, betas: Array, true: Array, as_is_mm: float) -> str:
    """The misreading of the parameters that comes nearest to the stored joints."""
    mean = load_hand(subject.pipeline.config.data.hand).hands_mean
    zero = np.zeros_like(betas)
    shifted = np.concatenate([theta[:, 3:], np.zeros((len(theta), 3))], axis=1)
    readings = (
        Reading("theta begins 3 values late: it has the wrist's rotation", shifted, betas),
        Reading("theta begins 3 values late: it has the wrist's rotation, and the shape is not read", shifted, zero),
        Reading("the mean pose is not added to theta", theta + mean, betas),
        Reading("the mean pose is added twice", theta - mean, betas),
    )
    errors_mm = [
        float(1000 * np.linalg.norm(_computed(subject, each.theta, each.betas) - true, axis=-1).mean())
        for each in readings
    ]
    best = int(np.argmin(errors_mm))
    if errors_mm[best] < 0.6 * as_is_mm:
        return f"it looks as if {readings[best].name}: fixed, {errors_mm[best]:.1f} mm are left"
    return "is data.hand the hand that the labels were made with? if so, look at labels.joint_order and labels.units"


def _stored(subject: Subject) -> tuple[Array, Array]:
    labels: Labels = subject.pipeline.data.labels
    return labels.theta[subject.poses], labels.betas[subject.poses]


def _computed(subject: Subject, theta: Array, betas: Array) -> Array:
    """Joints (N, 21, 3) in the wrist's frame, by the hand layer that validation uses."""
    hand: HandLayer = subject.pipeline.reference.hand
    with torch.no_grad():
        joints: Array = wrist_joints(hand, torch.from_numpy(theta), torch.from_numpy(betas)).numpy()
    return joints
