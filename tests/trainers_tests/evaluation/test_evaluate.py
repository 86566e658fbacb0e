"""The `val/` metrics of whole predictions: their names, and a perfect, a constant and a broken model."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mano_trainers.arrays import Array
from mano_trainers.data.load import LoadedData
from mano_trainers.data.readers.labels import Labels
from mano_trainers.evaluation.evaluate import Outputs, evaluate
from mano_trainers.evaluation.procrustes import aligned_distances
from mano_trainers.evaluation.reference import Reference, best_constant_theta, make_reference
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.model import load_embedded_hand, load_gestures
from mano_trainers.losses.terms import wrist_joints

NAMES = {
    f"val/{name}"
    for name in (
        "mpjpe_mm pa_mpjpe_mm pa_mpvpe_mm auc f5 f15 theta_variance_rad2 theta_var_ratio theta_r2 theta_min theta_max "
        "pose_entropy_bits pose_entropy_ratio gesture_macro_f1 skill skill_p pa_mpjpe_low_mm pa_mpjpe_high_mm"
    ).split()
}
LAYER = HandLayer(load_embedded_hand(), torch.float64)


def poses(count: int, seed: int) -> Array:
    """Blends of the named gestures with a little noise."""
    rng = np.random.default_rng(seed)
    gestures = np.stack(list(load_gestures().values()))
    weights = rng.dirichlet(np.full(len(gestures), 0.3), size=count)
    return weights @ gestures + rng.normal(scale=0.05, size=(count, 45))


def joints(theta: Array, betas: Array) -> Array:
    return wrist_joints(LAYER, torch.from_numpy(theta), torch.from_numpy(betas)).numpy()


def loaded(val_theta: Array, train_theta: Array, betas: Array) -> LoadedData:
    """Validation poses of the given shapes, and training poses, in a camera's frame."""
    theta = np.concatenate([val_theta, train_theta])
    betas = np.concatenate([betas, np.zeros((len(train_theta), 10))])
    orient = np.random.default_rng(5).normal(size=(len(theta), 3))
    joints_m = LAYER.joints(*(torch.from_numpy(values) for values in (theta, betas, orient))).numpy() + 0.7
    count = len(theta)
    every, tag = np.arange(count), np.full(count, "")
    labels = Labels(theta, orient, betas, joints_m, np.tile(np.eye(3), (count, 1, 1)), every, tag, tag, every, tag)
    val = np.arange(len(val_theta))
    images, train = np.zeros((count, 8, 8, 3), dtype=np.uint8), np.arange(len(val), count)
    return LoadedData(
        images, labels, train, val, "0", load_embedded_hand(), np.full(count, 8.0), np.zeros((count, 2)), {}
    )


@pytest.fixture(scope="module")
def reference() -> Reference:
    return make_reference(loaded(poses(60, 1), poses(300, 2), np.zeros((60, 10))), mesh_images=8)


def test_a_perfect_prediction_of_hands_of_mean_shape(reference: Reference) -> None:
    metrics = evaluate(reference, Outputs(reference.theta))
    assert set(metrics) == NAMES
    for name in ("mpjpe_mm", "pa_mpjpe_mm", "pa_mpvpe_mm"):
        assert metrics[f"val/{name}"] < 1e-4
    for name in ("f5", "f15", "theta_var_ratio", "theta_r2", "pose_entropy_ratio", "gesture_macro_f1", "skill"):
        assert metrics[f"val/{name}"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["val/auc"] > 0.994  # rounding exceeds the first threshold, which is zero


def test_the_compared_meshes_come_from_images_all_over_the_set() -> None:
    theta = poses(60, 1)
    few = make_reference(loaded(theta, poses(300, 2), np.zeros((60, 10))), mesh_images=4)
    wrong = theta.copy()
    wrong[1:19] = 0.0  # neither the first, nor those at the thirds, nor the last
    assert evaluate(few, Outputs(wrong))["val/pa_mpvpe_mm"] < 1e-4
    wrong[-1] = 0.0
    assert evaluate(few, Outputs(wrong))["val/pa_mpvpe_mm"] > 1.0


def test_the_best_constant_pose_has_no_skill_spread_or_entropy(reference: Reference) -> None:
    train_theta = poses(300, 2)
    constant = best_constant_theta(LAYER, train_theta, joints(train_theta, np.zeros((300, 10))))
    metrics = evaluate(reference, Outputs(np.tile(constant, (60, 1))))
    assert metrics["val/skill"] == pytest.approx(0.0, abs=1e-6)
    for name in ("theta_variance_rad2", "theta_var_ratio", "pose_entropy_bits"):
        assert metrics[f"val/{name}"] == pytest.approx(0.0, abs=1e-12)
    assert metrics["val/gesture_macro_f1"] < 0.2
    assert metrics["val/theta_r2"] < 0.05


def test_the_constant_pose_beats_the_mean_every_label_and_its_neighbours() -> None:
    theta = poses(200, 3)
    true = joints(theta, np.zeros((200, 10)))

    def error_mm(constant: Array) -> float:
        predicted = np.broadcast_to(joints(constant[None], np.zeros((1, 10))), true.shape)
        return 1000 * float(aligned_distances(predicted, true).mean())

    best = best_constant_theta(LAYER, theta, true)
    assert error_mm(best) < error_mm(theta.mean(0)) - 0.1
    assert error_mm(best) < min(error_mm(label) for label in theta[::10])
    rng = np.random.default_rng(0)
    nearby = [error_mm(best + 0.1 * rng.normal(size=45)) for _ in range(20)]
    assert error_mm(best) < min(nearby) + 0.02


def test_shape_the_model_does_not_predict_stays_in_the_error(reference: Reference) -> None:
    theta, betas = reference.theta, np.random.default_rng(0).normal(size=(60, 10))
    shaped = make_reference(loaded(theta, theta, betas), mesh_images=4)
    metrics = evaluate(shaped, Outputs(theta))
    assert metrics["val/theta_r2"] == 1.0
    assert 0.5 < metrics["val/pa_mpjpe_mm"] < 5.0 < metrics["val/mpjpe_mm"]


def test_a_predicted_shape_is_used() -> None:
    theta, betas = poses(20, 4), np.random.default_rng(0).normal(size=(20, 10))
    shaped = make_reference(loaded(theta, theta, betas), mesh_images=4)
    metrics = evaluate(shaped, Outputs(theta, betas=betas))
    assert set(metrics) == NAMES
    for name in ("mpjpe_mm", "pa_mpjpe_mm", "pa_mpvpe_mm"):
        assert metrics[f"val/{name}"] < 1e-4


def test_a_predicted_orientation_is_judged_in_the_cameras_frame(reference: Reference) -> None:
    right = evaluate(reference, Outputs(reference.theta, orient=reference.orient))
    assert set(right) == NAMES | {"val/mpjpe_camera_mm"}
    assert right["val/mpjpe_camera_mm"] < 1e-4
    facing = evaluate(reference, Outputs(reference.theta, orient=np.tile(np.eye(3), (60, 1, 1))))
    assert facing["val/mpjpe_mm"] < 1e-4 < 20 < facing["val/mpjpe_camera_mm"]


def test_joints_predicted_directly_are_judged_beside_thetas(reference: Reference) -> None:
    constant = np.tile(reference.theta.mean(0), (60, 1))
    turn = Rotation.from_rotvec([0.0, 0.0, 1.0]).as_matrix()
    metrics = evaluate(reference, Outputs(constant, joints_m=reference.joints_m @ turn))
    assert set(metrics) == NAMES | {"val/joints_mpjpe_mm", "val/joints_pa_mpjpe_mm"}
    assert metrics["val/joints_pa_mpjpe_mm"] < 1e-4 < 20 < metrics["val/joints_mpjpe_mm"]
    assert metrics["val/pa_mpjpe_mm"] > 5


@pytest.mark.parametrize("output", ["betas", "orient", "joints_m"])
def test_any_output_that_is_not_finite_makes_every_metric_nan(reference: Reference, output: str) -> None:
    shape = {"betas": (60, 10), "orient": (60, 3, 3), "joints_m": (60, 21, 3)}[output]
    metrics = evaluate(reference, Outputs(reference.theta, **{output: np.full(shape, math.inf)}))
    assert set(metrics) >= NAMES
    assert all(math.isnan(value) for value in metrics.values())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_prediction_that_is_not_finite_makes_every_metric_nan(reference: Reference, bad: float) -> None:
    theta = reference.theta.copy()
    theta[7, 7] = bad
    metrics = evaluate(reference, Outputs(theta))
    assert set(metrics) == NAMES
    assert all(math.isnan(value) for value in metrics.values())
