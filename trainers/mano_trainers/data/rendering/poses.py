"""Poses, shapes and viewing directions of the embedded hand, drawn around its gestures."""

from typing import Final

import numpy as np
import torch

from mano_trainers.arrays import Array
from mano_trainers.hand.model import ASSETS, load_embedded_hand, load_gestures
from mano_trainers.rotations import axis_angle_from_quaternion, quaternion_from_axis_angle, quaternion_multiply

FINGER_FLEXION_DEG: Final = 9.0
JOINT_FLEXION_DEG: Final = 4.0
ABDUCTION_DEG: Final = 6.0
AXIS_NOISE_DEG: Final = 2.5
"""On every axis of every joint, so that no dimension of theta is constant and each can be scored."""
FLEXION_LIMITS_DEG: Final = (-15.0, 105.0)
LARGEST_BETA: Final = 2.5
TILT_DEG: Final = 20.0
TURN_DEG: Final = 25.0
ROLL_DEG: Final = 30.0
"""Standard deviations of the view around the palm of an upright hand. With wider ones, or with the back of the hand,
which hides bent fingers, a small network learns little from a few thousand pictures in minutes that beats the constant
pose."""
PALM_TO_CAMERA: Final = ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
"""Rows of the rotation that takes the hand's frame (fingers -x, palm -y, thumb +z) to the camera's (x right, y down,
z away) with the fingers up and the palm towards the camera."""


def sample_poses(count: int, generator: np.random.Generator) -> Array:
    """Anatomically plausible finger poses.

    Each is a blend of two gestures with noise: flexion of a whole finger and of each joint, abduction at the knuckles,
    and a little noise on every axis. A joint is flexed first, then spread.

    Args:
        count: how many.
        generator: source of randomness.

    Returns:
        theta (count, 45): axis-angle in rad, mean pose excluded.
    """
    with np.load(ASSETS / "joint_axes.npz", allow_pickle=False) as axes:
        flex, abduct = axes["flex"][1:], axes["abd"][1:]  # (15, 3), the wrist left out
    mean = load_embedded_hand().hands_mean
    gestures = np.stack(list(load_gestures().values())) + mean
    flexion_of_gesture = np.einsum("gjc,jc->gj", gestures.reshape(-1, 15, 3), flex)  # gestures are pure flexion

    first, second = generator.integers(len(gestures), size=(2, count))
    blend = np.where(generator.random(count) < 0.5, 0.0, 0.5 * generator.beta(1.0, 2.0, count))[:, None]
    flexion = (1 - blend) * flexion_of_gesture[first] + blend * flexion_of_gesture[second]
    finger_noise = generator.normal(0.0, FINGER_FLEXION_DEG, (count, 5)).repeat(3, axis=1)
    flexion = flexion + np.deg2rad(finger_noise + generator.normal(0.0, JOINT_FLEXION_DEG, (count, 15)))
    flexion = flexion.clip(*np.deg2rad(FLEXION_LIMITS_DEG))
    abduction = np.zeros((count, 15))
    abduction[:, ::3] = np.deg2rad(generator.normal(0.0, ABDUCTION_DEG, (count, 5)))
    noise = np.deg2rad(generator.normal(0.0, AXIS_NOISE_DEG, (count, 15, 3)))
    rotation = _compose(abduction[..., None] * abduct, flexion[..., None] * flex) + noise
    theta: Array = rotation.reshape(count, 45) - mean
    return theta


def sample_shapes(count: int, generator: np.random.Generator) -> Array:
    """Shape coefficients (count, 10): standard normal, clipped."""
    return generator.normal(size=(count, 10)).clip(-LARGEST_BETA, LARGEST_BETA)


def sample_orientations(count: int, generator: np.random.Generator) -> Array:
    """Rotations of the wrist in the camera's frame (x right, y down, z away).

    The camera looks at the palm of the hand, which is more or less upright.

    Returns:
        (count, 3) axis-angle, rad.
    """
    turn = np.deg2rad(generator.normal(0.0, TURN_DEG, count))
    tilt = np.deg2rad(generator.normal(0.0, TILT_DEG, count))
    roll = np.deg2rad(generator.normal(0.0, ROLL_DEG, count))
    zero = np.zeros(count)
    around_fingers = np.stack([zero, turn, zero], axis=1)
    tilted = _compose(np.stack([tilt, zero, zero], axis=1), around_fingers)
    rolled = _compose(np.stack([zero, zero, roll], axis=1), tilted)
    return _compose(rolled, np.broadcast_to(_axis_angle(PALM_TO_CAMERA), (count, 3)))


def _compose(second: Array, first: Array) -> Array:
    """Axis-angle (..., 3) of the rotation `first`, then `second`, both axis-angle."""
    quaternions = [quaternion_from_axis_angle(torch.as_tensor(np.ascontiguousarray(part))) for part in (second, first)]
    composed: Array = axis_angle_from_quaternion(quaternion_multiply(*quaternions)).numpy()
    return composed


def _axis_angle(matrix: tuple[tuple[float, ...], ...]) -> Array:
    """Axis-angle (3,) of a rotation matrix by less than pi."""
    r = np.asarray(matrix)
    axis = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
    angle = np.arccos((np.trace(r) - 1) / 2)
    rotation: Array = axis / np.linalg.norm(axis) * angle
    return rotation
