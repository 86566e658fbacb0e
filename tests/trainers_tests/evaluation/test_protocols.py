"""Scores of HO-3D and DexYCB against their official formulas, on the joints that their files hold."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.transform import Rotation
from smplx_reference import smplx_layer

from mano_trainers.config.data import DataConfig
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.data.rendering.dexycb import make_dexycb
from mano_trainers.data.rendering.freihand import make_freihand
from mano_trainers.data.rendering.ho3d import make_ho3d
from mano_trainers.evaluation.evaluate import Outputs, evaluate
from mano_trainers.evaluation.reference import make_reference
from mano_trainers.hand.definitions import DEXYCB_TIPS, HO3D_TIPS
from mano_trainers.hand.model import FREIHAND_ORDER, load_embedded_hand
from mano_trainers.rotations import matrix_from_axis_angle

HAND = load_embedded_hand()
COUNT, SIZE = 20, 48
TIPS = {"ho3d": HO3D_TIPS, "dexycb": DEXYCB_TIPS}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("protocols")
    make_ho3d(folder / "ho3d", COUNT, SIZE, seed=1)
    make_dexycb(folder / "dexycb", COUNT, SIZE, seed=1)
    make_freihand(folder / "freihand", COUNT, SIZE, seed=1, workers=1)
    return folder


def load(place: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> LoadedData:
    """All poses of the sets as validation poses."""
    monkeypatch.setenv("TRAINERS_CACHE_DIR", str(place / "cache"))
    sets = [{"name": f"my_{name}", "root": str(place / name), "format": name} for name in names]
    data = load_data(DataConfig.model_validate({"sets": sets, "image_size": SIZE, "val_fraction": 0.5}))
    return replace(data, val_poses=np.arange(len(data.labels.theta)))


def guess(data: LoadedData) -> Outputs:
    """Predictions some way off the labels, in every output."""
    rng = np.random.default_rng(0)
    labels, val = data.labels, data.val_poses
    orient = labels.global_orient[val] + rng.normal(scale=0.2, size=(len(val), 3))
    return Outputs(
        theta=labels.theta[val] + rng.normal(scale=0.2, size=(len(val), 45)),
        betas=labels.betas[val] + rng.normal(scale=0.5, size=(len(val), 10)),
        orient=matrix_from_axis_angle(torch.from_numpy(orient)).numpy(),
    )


def official_joints(theta: Any, betas: Any, orient: Any, tips: tuple[int, ...]) -> Any:
    """From smplx: the ends of its chain, and tip vertices; (N, 21, 3)."""
    values = [torch.tensor(each, dtype=torch.float32) for each in (theta, betas, orient)]
    shown = smplx_layer(HAND, len(theta))(hand_pose=values[0], betas=values[1], global_orient=values[2])
    joints = torch.cat([shown.joints[:, :16], shown.vertices[:, list(tips)]], dim=1)[:, list(FREIHAND_ORDER)]
    return joints.detach().numpy()


def official_scores(predicted: Any, true: Any, scaled: bool) -> tuple[float, float]:
    """Mean errors of a hand in mm, aligned by `align_w_scale` and by the root (and scale), as in the published code."""
    centred, centred_true = predicted - predicted.mean(0), true - true.mean(0)
    size, true_size = np.linalg.norm(centred), np.linalg.norm(centred_true)
    turn, scale = orthogonal_procrustes(centred_true / true_size, centred / size)
    aligned = centred / size @ turn.T * scale * true_size
    pa = 1000 * np.linalg.norm(aligned - centred_true, axis=1).mean()
    if scaled:  # joint 4 of HO-3D's order is the middle finger's knuckle, 9 of FreiHAND's
        predicted = predicted / np.linalg.norm(predicted[9] - predicted[0]) * np.linalg.norm(true[9] - true[0])
    root = 1000 * np.linalg.norm((predicted - predicted[0]) - (true - true[0]), axis=1).mean()
    return float(pa), float(root)


def stored_joints(place: Path) -> dict[tuple[float, ...], Any]:
    """Shape -> the joints of HO-3D's files in FreiHAND's order, with y and z as in the image."""
    metas = [pickle.loads(path.read_bytes()) for path in sorted((place / "ho3d").glob("train/*/meta/*.pkl"))]
    return {
        tuple(meta["handBeta"].round(5)): meta["handJoints3D"][list(FREIHAND_ORDER)] * [1, -1, -1]
        for meta in metas
        if meta["handPose"] is not None
    }


@pytest.mark.parametrize(("name", "second"), [("ho3d", "st"), ("dexycb", "rr")])
def test_the_scores_are_the_official_ones(place: Path, monkeypatch: pytest.MonkeyPatch, name: str, second: str) -> None:
    """For right hands; the next test shows how left ones differ."""
    data = load(place, monkeypatch, name)
    data = replace(data, val_poses=np.flatnonzero(data.labels.definition == name))
    outputs, labels, val = guess(data), data.labels, data.val_poses
    assert outputs.orient is not None
    turns = Rotation.from_matrix(outputs.orient).as_rotvec()
    predicted = official_joints(outputs.theta, outputs.betas, turns, TIPS[name])
    true = official_joints(labels.theta[val], labels.betas[val], labels.global_orient[val], TIPS[name])
    if name == "ho3d":  # what the files say is what the parameters say
        stored = stored_joints(place)
        for points, betas in zip(true, labels.betas[val], strict=True):
            of_file = stored[tuple(betas.round(5))]
            np.testing.assert_allclose(of_file - of_file[0], points - points[0], atol=1e-5)
    expected = np.mean(
        [official_scores(*pair, scaled=second == "st") for pair in zip(predicted, true, strict=True)], axis=0
    )
    found = evaluate(make_reference(data, 2), outputs)
    assert found[f"val/protocol/{name}/pa_mpjpe_mm"] == pytest.approx(expected[0], abs=0.01)
    assert found[f"val/protocol/{name}/{second}_mpjpe_mm"] == pytest.approx(expected[1], abs=0.01)
    assert abs(found["val/pa_mpjpe_mm"] - expected[0]) > 0.1  # FreiHAND's joints are different ones
    assert 0 < found[f"val/protocol/{name}/pa_auc"] < 1


def test_the_truth_has_no_error_except_for_dexycbs_left_hands(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left hands were labelled on a hand of another shape, so a right shape leaves some error on them."""
    data = load(place, monkeypatch, "freihand", "ho3d", "dexycb")
    labels, val = data.labels, data.val_poses
    orient = matrix_from_axis_angle(torch.from_numpy(labels.global_orient[val])).numpy()
    found = evaluate(make_reference(data, 2), Outputs(labels.theta[val], labels.betas[val], orient))
    assert found["val/protocol/ho3d/pa_mpjpe_mm"] < 1e-3
    assert found["val/protocol/ho3d/st_mpjpe_mm"] < 1e-3
    assert found["val/pa_mpjpe_mm"] < 1e-3
    assert 0.1 < found["val/protocol/dexycb/pa_mpjpe_mm"] < 5
    assert "val/my_ho3d/pa_mpjpe_mm" in found
    assert not [name for name in found if "protocol/freihand" in name]


def test_predictions_that_are_not_finite_give_the_same_metric_names(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load(place, monkeypatch, "ho3d")
    reference, outputs = make_reference(data, 2), guess(data)
    broken = Outputs(np.full_like(outputs.theta, np.nan), outputs.betas, outputs.orient)
    assert set(evaluate(reference, broken)) == set(evaluate(reference, outputs))
    alone = evaluate(reference, Outputs(outputs.theta))
    assert not [name for name in alone if name.endswith("st_mpjpe_mm")]  # it needs the wrist's rotation
