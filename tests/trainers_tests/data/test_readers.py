"""Readers of HO-3D and DexYCB on small sets in their layouts: stored by their conventions, and read into ours."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from smplx_reference import smplx_layer

from mano_trainers.data.cache import decode
from mano_trainers.data.readers import dexycb, ho3d
from mano_trainers.data.readers.crop import picture_size, project
from mano_trainers.data.readers.labels import Labels, Picture
from mano_trainers.data.rendering import shots as make_shots
from mano_trainers.data.rendering.dexycb import make_dexycb
from mano_trainers.data.rendering.ho3d import make_ho3d
from mano_trainers.hand import mirror
from mano_trainers.hand.definitions import DEXYCB_TIPS, DEXYCB_TIPS_LEFT, HO3D_TIPS, freihand_joints
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.mirror import mirror_hand
from mano_trainers.hand.model import FREIHAND_ORDER, HandModel, load_embedded_hand

HAND = load_embedded_hand()
LEFT = mirror_hand(HAND)
COUNT, SIZE = 10, 48


@pytest.fixture(scope="module")
def ho3d_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "ho3d"
    make_ho3d(root, COUNT, SIZE, seed=1)
    return root


@pytest.fixture(scope="module")
def dexycb_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "dexycb"
    make_dexycb(root, COUNT, SIZE, seed=1)
    return root


def read_ho3d(root: Path) -> tuple[Labels, list[Picture]]:
    return ho3d.read_ho3d(root, HAND, "h")


def read_dexycb(root: Path) -> tuple[Labels, list[Picture]]:
    return dexycb.read_dexycb(root, HAND, LEFT, "d")


def smplx_joints(hand: HandModel, full_pose: Any, betas: Any, translation: Any, tips: tuple[int, ...]) -> Any:
    """The reference: smplx's chain joints and tip vertices in FreiHAND's order, of a pose (48,) with its mean."""
    theta = torch.tensor(full_pose[None, 3:] - hand.hands_mean, dtype=torch.float32)
    betas, orient = (torch.tensor(each[None], dtype=torch.float32) for each in (betas, full_pose[:3]))
    shown = smplx_layer(hand)(hand_pose=theta, global_orient=orient, betas=betas)
    joints = torch.cat([shown.joints[0, :16], shown.vertices[0, list(tips)]])[list(FREIHAND_ORDER)]
    return joints.detach().numpy() + translation


def kinematic_error_mm(labels: Labels) -> float:
    layer = HandLayer(HAND, torch.float64)
    computed = freihand_joints(layer, labels.theta, labels.betas, labels.global_orient)
    difference = (computed - computed[:, :1]) - (labels.joints_m - labels.joints_m[:, :1])
    return 1000 * float(np.linalg.norm(difference, axis=-1).max())


def metas(root: Path) -> list[tuple[Path, dict[str, Any]]]:
    return [(path, pickle.loads(path.read_bytes())) for path in sorted(root.glob("train/*/meta/*.pkl"))]


# --- what the makers write is what the sets' own documentation says


def test_ho3d_stores_opengl_full_poses_in_manos_order(ho3d_root: Path) -> None:
    labelled = [meta for _, meta in metas(ho3d_root) if meta["handPose"] is not None]
    assert len(labelled) == COUNT
    for meta in labelled:
        joints = smplx_joints(HAND, meta["handPose"], meta["handBeta"], meta["handTrans"], HO3D_TIPS)
        np.testing.assert_allclose(meta["handJoints3D"][list(FREIHAND_ORDER)], joints, atol=1e-6)
        assert (meta["handJoints3D"][:, 2] < 0).all()  # in front of a camera that looks along -z


def test_dexycb_stores_components_of_right_and_left_hands(dexycb_root: Path) -> None:
    sides = []
    for path in sorted(dexycb_root.glob("*/*/*/labels_*.npz")):
        with np.load(path, allow_pickle=False) as stored:
            pose, joints = stored["pose_m"][0].astype(float), stored["joint_3d"][0]
        if not pose.any():
            assert (joints == -1).all()
            continue
        meta = yaml.safe_load((path.parents[1] / "meta.yml").read_text())
        calibration = dexycb_root / "calibration" / f"mano_{meta['mano_calib'][0]}" / "mano.yml"
        betas = np.array(yaml.safe_load(calibration.read_text())["betas"])
        left = meta["mano_sides"] == ["left"]
        hand, tips = (LEFT, DEXYCB_TIPS_LEFT) if left else (HAND, DEXYCB_TIPS)
        full = np.concatenate([pose[:3], hand.hands_mean + pose[3:48] @ hand.hands_components])
        if left:  # as published: not mirrored
            hand = replace(hand, shapedirs=HAND.shapedirs)
        np.testing.assert_allclose(joints, smplx_joints(hand, full, betas, pose[48:], tips), atol=1e-6)
        sides.append(meta["mano_sides"][0])
    assert sides.count("left") == sides.count("right") == COUNT  # two cameras


# --- what the readers return


def test_joints_are_those_of_the_parameters_after_every_reader(ho3d_root: Path, dexycb_root: Path) -> None:
    for labels, _ in (read_ho3d(ho3d_root), read_dexycb(dexycb_root)):
        assert kinematic_error_mm(labels) < 1e-3
        assert (labels.joints_m[..., 2] > 0.1).all()  # x right, y down, z away


def test_frames_without_labels_are_left_out_and_the_rest_is_in_order(ho3d_root: Path, dexycb_root: Path) -> None:
    labels, pictures = read_ho3d(ho3d_root)
    assert [picture.path.stem for picture in pictures[:4]] == ["0001", "0002", "0001", "0002"]
    assert labels.pose_index.tolist() == list(range(COUNT))
    assert set(labels.set_name) == {"h"}
    _, pictures = read_dexycb(dexycb_root)
    assert len(pictures) == 2 * COUNT
    assert not [picture for picture in pictures if picture.path.stem == "color_000000"]


def test_cameras_of_one_recording_are_one_group(ho3d_root: Path, dexycb_root: Path) -> None:
    labels, pictures = read_ho3d(ho3d_root)
    names = [picture.path.parents[1].name for picture in pictures]
    assert len({labels.group[index] for index, name in enumerate(names) if name.startswith("ABF1")}) == 1
    assert len(set(labels.group)) == len(set(names)) - 1
    labels, pictures = read_dexycb(dexycb_root)
    recordings = [picture.path.parents[1].name for picture in pictures]
    assert len(set(zip(recordings, labels.group.tolist(), strict=True))) == len(set(recordings)) == 4


@pytest.mark.parametrize("layout", ["ho3d", "dexycb"])
def test_joints_project_into_the_middle_of_the_cut_and_into_the_picture(
    layout: str, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue(f"{layout}_root")
    labels, pictures = read_ho3d(root) if layout == "ho3d" else read_dexycb(root)
    sides = np.array([picture.box[2] - picture.box[0] for picture in pictures if picture.box])
    assert len(sides) == len(pictures)
    pixels = project(labels.intrinsics, labels.joints_m) / sides[:, None, None]
    assert pixels.min() > 0.1
    assert pixels.max() < 0.9
    for picture, joints in zip(pictures, pixels * sides[:, None, None], strict=True):
        assert picture.box is not None
        left, top, right, _ = picture.box
        whole = np.stack(
            [right - joints[:, 0] if picture.mirrored else left + joints[:, 0], top + joints[:, 1]], axis=1
        )
        assert ((whole > 0) & (whole < picture_size(picture.path))).all(axis=1).mean() > 0.7


def test_left_hands_are_mirrored_in_picture_and_labels(dexycb_root: Path) -> None:
    labels, pictures = read_dexycb(dexycb_root)
    left = np.array([picture.mirrored for picture in pictures])
    assert left.sum() == 10
    for row in np.flatnonzero(left)[::3]:
        label_file = (
            pictures[row].path.with_name(pictures[row].path.name.replace("color", "labels")).with_suffix(".npz")
        )
        with np.load(label_file, allow_pickle=False) as stored:
            wrist = stored["joint_3d"][0, 0]
        mirrored = wrist * np.array([-1, 1, 1])
        assert np.linalg.norm(labels.joints_m[row, 0] - mirrored) < 0.02  # the definition of the wrist differs a little


# --- a wrong step must show


def wrong_half_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ho3d, "FLIP", np.array([1.0, 1.0, -1.0]))


def no_turn_of_orientation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ho3d, "_flip_orientation", lambda orient: orient)


def joints_not_reordered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ho3d, "FREIHAND_ORDER", tuple(range(21)))


def other_tips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ho3d, "HO3D_TIPS", DEXYCB_TIPS)


@pytest.mark.parametrize("mutate", [wrong_half_turn, no_turn_of_orientation, joints_not_reordered, other_tips])
def test_a_wrong_step_in_the_reader_of_ho3d_shows_up(
    ho3d_root: Path, monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mutate(monkeypatch)
    assert kinematic_error_mm(read_ho3d(ho3d_root)[0]) > 3


def test_a_mean_pose_left_in_shows_up(ho3d_root: Path) -> None:
    flat = mirror_hand(mirror_hand(HAND))
    object.__setattr__(flat, "hands_mean", np.zeros(45))
    labels, _ = ho3d.read_ho3d(ho3d_root, flat)
    assert kinematic_error_mm(labels) > 3


def pose_not_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dexycb, "mirror_pose", lambda pose: pose)


def pose_mirrored_about_another_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "ROTATION", np.array([-1.0, 1.0, -1.0]))


def joints_not_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dexycb, "POSITION", np.ones(3))


@pytest.mark.parametrize("mutate", [pose_not_mirrored, pose_mirrored_about_another_axis, joints_not_mirrored])
def test_a_wrong_mirror_in_the_reader_of_dexycb_shows_up(
    dexycb_root: Path, monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mutate(monkeypatch)
    assert kinematic_error_mm(read_dexycb(dexycb_root)[0]) > 3


def test_the_fault_of_dexycbs_left_hand_shows_up_where_it_is_not_undone(
    dexycb_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dexycb, "with_left_fault", lambda hand: hand)
    assert kinematic_error_mm(read_dexycb(dexycb_root)[0]) > 3


def test_components_of_the_right_hand_for_left_poses_show_up(dexycb_root: Path) -> None:
    assert kinematic_error_mm(dexycb.read_dexycb(dexycb_root, HAND, HAND)[0]) > 3


def test_v2_with_png_is_read_like_v3(ho3d_root: Path, tmp_path: Path) -> None:
    make_ho3d(tmp_path / "v2", COUNT, SIZE, seed=1, suffix="png")
    labels, pictures = read_ho3d(tmp_path / "v2")
    assert {picture.path.suffix for picture in pictures} == {".png"}
    np.testing.assert_array_equal(labels.theta, read_ho3d(ho3d_root)[0].theta)


@pytest.mark.parametrize("layout", ["ho3d", "dexycb"])
def test_the_labelled_joints_lie_on_the_hand_in_the_decoded_pixels(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_shots, "scenery", lambda size, generator: Image.new("RGB", (size, size), (0, 0, 255)))
    monkeypatch.setattr(make_shots, "occlude", lambda picture, generator: None)
    make, read = (make_ho3d, read_ho3d) if layout == "ho3d" else (make_dexycb, read_dexycb)
    make(tmp_path / "set", COUNT, 64, 5)
    labels, pictures = read(tmp_path / "set")

    def on_hand(pictures: list[Picture]) -> float:
        hits = []
        for row, picture in enumerate(pictures):
            assert picture.box is not None
            side = picture.box[2] - picture.box[0]
            skin = decode(picture, side)[0][..., 0].astype(int) > 30
            column, line = project(labels.intrinsics[[row]], labels.joints_m[[row]])[0].astype(int).T
            hits.append(skin[line, column].mean())
        return float(np.mean(hits))

    assert on_hand(pictures) > 0.9
    assert on_hand([replace(picture, mirrored=not picture.mirrored) for picture in pictures]) < 0.8


def test_cut_and_mirror_reach_the_pixels(tmp_path: Path) -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[4, 30] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    cut, first = decode(Picture(tmp_path / "a.png", (26, -4, 42, 12)), 16)
    mirrored, second = decode(Picture(tmp_path / "a.png", (26, -4, 42, 12), True), 16)
    assert np.argwhere(cut[..., 0]).tolist() == [[8, 4]]
    assert np.argwhere(mirrored[..., 0]).tolist() == [[8, 11]]
    assert first != second
