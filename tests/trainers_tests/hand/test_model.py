from dataclasses import replace

import numpy as np
import pytest

from mano_trainers.hand.model import ASSETS, GESTURE_NAMES, TIP_VERTICES, load_embedded_hand, load_gestures

HAND = load_embedded_hand()
JOINTS_M = HAND.J_regressor @ HAND.v_template
WRIST, INDEX, MIDDLE, PINKY, THUMB = 0, 1, 4, 7, 13  # MANO's order; bases of the fingers


def test_shapes_are_manos() -> None:
    shapes = {
        "v_template": (778, 3),
        "shapedirs": (778, 3, 10),
        "posedirs": (778, 3, 135),
        "J_regressor": (16, 778),
        "weights": (778, 16),
        "kintree_table": (2, 16),
        "hands_components": (45, 45),
        "hands_mean": (45,),
        "hands_std": (45,),
    }
    assert {name: getattr(HAND, name).shape for name in shapes} == shapes
    assert set(HAND.f.ravel()) == set(range(778))  # no vertex is left over
    assert HAND.parents == (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)


def test_weights_and_regressor_are_averages() -> None:
    for rows in (HAND.weights, HAND.J_regressor):
        assert rows.min() >= 0
        np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-6)


def test_it_is_a_right_hand_in_manos_frame() -> None:
    """Fingers along -x, thumb towards +z, palm towards -y: with these three a left hand is impossible."""
    assert JOINTS_M[MIDDLE, 0] < JOINTS_M[WRIST, 0] - 0.08
    assert JOINTS_M[INDEX, 2] > JOINTS_M[PINKY, 2] + 0.05
    assert JOINTS_M[THUMB, 2] > JOINTS_M[MIDDLE, 2] + 0.02
    fist = load_gestures()["fist"] + HAND.hands_mean
    flexion = fist.reshape(15, 3)[0]  # turns the index finger's bone, about along -x, towards the palm
    assert np.cross(flexion, [-1.0, 0.0, 0.0])[1] < -0.5


def test_fingertips_are_the_farthest_vertices_of_their_fingers() -> None:
    last_joints = (15, 3, 6, 12, 9)  # thumb, index, middle, ring, pinky, in MANO's order
    for tip, joint in zip(TIP_VERTICES, last_joints, strict=True):
        finger = HAND.v_template[HAND.weights[:, joint] > 0.5]
        reach_m = np.linalg.norm(finger - JOINTS_M[joint], axis=1).max()
        assert np.linalg.norm(HAND.v_template[tip] - JOINTS_M[joint]) > 0.75 * reach_m


def test_pose_components_are_orthonormal_and_sorted() -> None:
    np.testing.assert_allclose(HAND.hands_components @ HAND.hands_components.T, np.eye(45), atol=1e-5)
    assert (np.diff(HAND.hands_std) <= 0).all()
    assert HAND.hands_std[0] > 1


def test_gestures_bend_about_the_flexion_axes_only() -> None:
    with np.load(ASSETS / "joint_axes.npz") as axes:
        flex, abduct = axes["flex"][1:], axes["abd"][1:]
    np.testing.assert_allclose(np.linalg.norm(flex, axis=1), 1)
    np.testing.assert_allclose(np.einsum("jc,jc->j", flex, abduct), 0, atol=1e-12)
    gestures = load_gestures()
    assert tuple(gestures) == GESTURE_NAMES
    for theta in gestures.values():
        pose = (theta + HAND.hands_mean).reshape(15, 3)
        angle = np.einsum("jc,jc->j", pose, flex)
        np.testing.assert_allclose(pose, angle[:, None] * flex, atol=1e-6)
    straight = np.linalg.norm((gestures["open"] + HAND.hands_mean).reshape(15, 3), axis=1)
    assert np.rad2deg(straight).max() == pytest.approx(8)


@pytest.mark.parametrize("name", ["v_template", "hands_mean", "f"])
def test_any_change_changes_the_fingerprint(name: str) -> None:
    changed = getattr(HAND, name).copy()
    changed.flat[0] += 1
    assert replace(HAND, **{name: changed}).fingerprint != HAND.fingerprint
    assert replace(HAND, side="left").fingerprint != HAND.fingerprint
