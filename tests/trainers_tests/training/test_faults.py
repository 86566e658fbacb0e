"""Each planted fault does what the pipeline that had it did; without faults nothing changes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mano_trainers.batches import Targets, seeded
from mano_trainers.config import FaultName, TrainConfig
from mano_trainers.config.data import DataConfig
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.evaluation.evaluate import Outputs, evaluate
from mano_trainers.evaluation.procrustes import align, aligned_distances
from mano_trainers.hand.model import FREIHAND_ORDER
from mano_trainers.loop import train_on
from mano_trainers.losses.terms import Target, loss_terms
from mano_trainers.models import Prediction
from mano_trainers.training.faults import (
    CameraTargets,
    broken_align,
    faulty_reference,
    pipeline_of,
    read_faultily,
    split_images,
    turn_pixels_only,
)
from mano_trainers.training.pipeline import Pipeline, training_batch

NAMES: tuple[FaultName, ...] = get_args(FaultName)
CPU = torch.device("cpu")
DATA = DataConfig(embedded_count=60, image_size=32, val_fraction=0.2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LoadedData:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINERS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        return load_data(DATA)


def config(*faults: FaultName, **changes: Any) -> TrainConfig:
    mapping = {
        "data": DATA.model_dump(),
        "loss": {"lambda_joint": 5.0, "lambda_pca": 0.01},
        "optim": {"epochs": 2, "batch_size": 16},
        "eval": {"mesh_images": 4},
        "augment": False,
        "faults": list(faults),
        "device": "cpu",
    }
    return TrainConfig.model_validate(mapping | changes)


def pipeline(data: LoadedData, *faults: FaultName, **changes: Any) -> Pipeline:
    return pipeline_of(data, config(*faults, **changes), CPU)


def perfect(data: LoadedData) -> Outputs:
    """The true theta and shape of the held-out poses."""
    return Outputs(data.labels.theta[data.val_poses], data.labels.betas[data.val_poses])


def truth(pipeline: Pipeline, data: LoadedData, poses: Any) -> tuple[Prediction, Target]:
    """The true theta and shape as a prediction, and what the pipeline compares it with."""
    values = (torch.from_numpy(each[poses]).float() for each in (data.labels.theta, data.labels.betas))
    return Prediction(*values), pipeline.targets.of(poses, None)


def run(data: LoadedData, folder: Path, config: TrainConfig) -> Mapping[str, float]:
    *_, last = train_on(data, config, CPU, folder)
    return last.metrics


def test_without_faults_the_data_are_passed_on_as_they_are(data: LoadedData) -> None:
    sound = pipeline(data)
    assert sound.data is data
    assert sound.more_metrics is None
    assert sound.turn_pixels is None
    assert type(sound.targets) is Targets
    assert np.array_equal(sound.val_images, sound.last_val_images)
    assert evaluate(sound.reference, perfect(data))["val/pa_mpjpe_mm"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("faults", [["mispaired"], ["camera_frame", "camera_frame"]])
def test_unknown_and_repeated_faults_are_refused(faults: list[str]) -> None:
    with pytest.raises(ValidationError, match="faults"):
        TrainConfig.model_validate({"faults": faults})


def test_four_pairs_of_freihand_are_right_with_mispaired_labels(data: LoadedData) -> None:
    poses, images = 32_560, 130_240
    labels = replace(data.labels, pose_index=np.arange(images) % poses)
    wrong = read_faultily(replace(data, labels=labels), ["mispaired_labels"]).labels.pose_index
    assert np.array_equal(wrong, np.arange(images) // 4)
    assert (wrong == labels.pose_index).sum() == 4


def test_a_misread_theta_is_shifted_by_a_joint(data: LoadedData) -> None:
    labels = data.labels
    wrong = read_faultily(data, ["misread_theta"]).labels
    assert np.array_equal(wrong.theta[:, 3:], labels.theta[:, :42])
    assert np.array_equal(wrong.theta[:, :3], labels.global_orient)
    assert not wrong.betas.any()
    assert np.array_equal(wrong.joints_m, labels.joints_m)


def test_no_mean_pose_changes_the_hand_and_silences_the_prior(data: LoadedData) -> None:
    broken = pipeline(data, "no_mean_pose")
    terms = loss_terms(broken.criterion, *truth(broken, data, data.train_poses))
    assert terms["pca"] == 0
    assert terms["param"] == 0
    assert terms["joint"] > 0.001, "metres: the joints of the file are those of a hand with its mean pose"
    assert evaluate(broken.reference, perfect(data))["val/pa_mpjpe_mm"] > 1
    sound = pipeline(data)
    terms = loss_terms(sound.criterion, *truth(sound, data, data.train_poses))
    assert terms["pca"] > 0
    assert terms["joint"] < 1e-5


def test_joints_in_manos_order_make_a_perfect_prediction_bad(data: LoadedData) -> None:
    broken = pipeline(data, "mano_joint_order")
    joints_m = broken.criterion.hand.joints(broken.targets.theta, broken.targets.betas)
    joints_m = joints_m - joints_m[:, :1]
    assert torch.allclose(joints_m[:, list(FREIHAND_ORDER)], broken.targets.joints_m, atol=1e-5)
    assert 30 < evaluate(broken.reference, perfect(data))["val/pa_mpjpe_mm"] < 60, "46.6 mm on real hands"
    assert loss_terms(broken.criterion, *truth(broken, data, data.train_poses))["joint"] > 0.03


def test_the_camera_frame_has_a_floor_that_no_theta_reduces(data: LoadedData) -> None:
    loss = {"joint_form": "mse_m2", "lambda_joint": 25.0}
    broken = pipeline(data, "camera_frame", loss=loss)
    sound, away = (
        loss_terms(each.criterion, *truth(each, data, data.train_poses))["joint"].item()
        for each in (pipeline(data, loss=loss), broken)
    )
    far_m2 = (data.labels.joints_m[data.train_poses].mean(1) ** 2).mean()
    assert sound < 1e-9
    assert away == pytest.approx(far_m2, rel=0.25), "the hand's distance from the camera is the loss"


def test_labels_in_the_cameras_frame_turn_with_the_pixels(data: LoadedData) -> None:
    broken = pipeline(data, "camera_frame")
    assert isinstance(broken.targets, CameraTargets)
    angle = torch.full((len(data.train_poses),), 0.3)
    plain, turned = (broken.targets.of(data.train_poses, each).camera_m for each in (None, angle))
    assert plain is not None
    assert turned is not None
    assert torch.allclose(plain.norm(dim=-1), turned.norm(dim=-1))
    assert not torch.allclose(plain, turned)


def test_broken_procrustes_measures_the_hand_and_not_the_prediction(data: LoadedData) -> None:
    broken, sound = (faulty_reference(data, 2, faults) for faults in (["broken_procrustes"], []))
    true = broken.aligned_to_m
    spread_mm = 1000 * np.linalg.norm(true - true.mean(1, keepdims=True), axis=-1).mean()
    shuffled = Outputs(np.roll(perfect(data).theta, 1, axis=0))
    for outputs in (perfect(data), shuffled, Outputs(np.zeros((len(data.val_poses), 45)))):
        assert evaluate(broken, outputs)["val/pa_mpjpe_mm"] == pytest.approx(spread_mm, rel=0.1)
    assert evaluate(sound, perfect(data))["val/pa_mpjpe_mm"] < 0.01
    assert abs(evaluate(broken, shuffled)["val/skill"]) < 0.05


def test_broken_procrustes_has_a_seventh_of_the_scale_and_the_inverse_rotation() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(3, 21, 3))
    points -= points.mean(1, keepdims=True)
    turn = np.linalg.qr(rng.normal(size=(3, 3, 3)))[0]
    true = points @ turn.transpose(0, 2, 1)
    assert np.allclose(align(points, true), true)
    assert np.allclose(broken_align(points, true), points @ turn / 7)
    assert aligned_distances(points, true, broken_align).mean() > 1


def test_unturned_labels_mirror_half_of_the_images_and_move_no_label(data: LoadedData) -> None:
    broken = pipeline(data, "unturned_labels", augment=True, model={"predict_orient": True})
    indices = np.sort(broken.table[data.train_poses, 0])
    images, target = training_batch(broken, indices, 0)
    plain, untouched = training_batch(pipeline(data, model={"predict_orient": True}), indices, 0)
    assert not torch.allclose(images, plain)
    assert torch.equal(target.theta, untouched.theta)
    assert torch.equal(target.joints_m, untouched.joints_m)
    half = torch.zeros(400, 3, 32, 32)
    half[..., :16] = 1.0  # bright on the left: after any turn by up to 30 degrees it still is
    left = turn_pixels_only(half, seeded(0, "augment", 0))[..., :16].mean((1, 2, 3))
    right = turn_pixels_only(half, seeded(0, "augment", 0))[..., 16:].mean((1, 2, 3))
    assert 0.4 < (right > left).float().mean() < 0.6


def test_a_leaky_split_validates_on_poses_and_finally_on_images_of_the_training_set(data: LoadedData) -> None:
    leaky = read_faultily(data, ["leaky_split"])
    assert set(leaky.val_poses) <= set(data.train_poses)
    assert len(leaky.val_poses) == len(data.val_poses)
    table, val_images, last = split_images(leaky, ["leaky_split"])
    trained = set(table[data.train_poses].ravel().tolist())
    assert not trained & set(val_images.tolist())
    assert set(last.tolist()) <= trained
    poses = data.labels.pose_index
    assert not set(poses[table[data.train_poses].ravel()]) & set(data.val_poses), "proper poses are never shown"
    for images in (val_images, last):
        assert np.array_equal(poses[images], leaky.val_poses)


@pytest.mark.slow
@pytest.mark.parametrize("faults", [("unturned_labels",), ("leaky_split", "camera_frame"), NAMES])
def test_a_faulty_run_reports_honest_metrics_beside_its_own(
    data: LoadedData, tmp_path: Path, faults: tuple[FaultName, ...]
) -> None:
    broken = run(data, tmp_path / "broken", config(*faults))
    assert {name for name in broken if name.startswith("honest/")} == {
        f"honest/{name}" for name in ("pa_mpjpe_mm", "mpjpe_mm", "skill")
    }
    assert all(np.isfinite(value) for value in broken.values())
    if "broken_procrustes" in faults:  # whatever a model does, the number stays near that of any other
        assert broken["val/pa_mpjpe_mm"] == pytest.approx(broken["val/mean_pose_pa_mpjpe_mm"], abs=2)


@pytest.mark.slow
def test_a_fault_of_the_metric_alone_leaves_the_model_and_its_honest_score_as_they_were(
    data: LoadedData, tmp_path: Path
) -> None:
    sound = run(data, tmp_path / "sound", config())
    broken = run(data, tmp_path / "broken", config("broken_procrustes"))
    assert not any(name.startswith("honest/") for name in sound)
    for name in ("pa_mpjpe_mm", "mpjpe_mm", "skill"):
        assert broken[f"honest/{name}"] == sound[f"val/{name}"]
    assert broken["train/loss"] == sound["train/loss"]
    assert broken["val/pa_mpjpe_mm"] > sound["val/pa_mpjpe_mm"] + 10
