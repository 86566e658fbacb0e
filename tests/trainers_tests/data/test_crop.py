"""`data.crop`: what is cut out of a picture, with camera, joints and masks, and that no validation label decides it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mano_trainers.arrays import Array
from mano_trainers.config import TrainConfig
from mano_trainers.data.cache import decode
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.data.readers.crop import centred_box, cut_intrinsics, inside, project, square_boxes
from mano_trainers.data.readers.labels import Picture
from mano_trainers.data.readers.read import read_set
from mano_trainers.data.rendering.freihand import make_freihand
from mano_trainers.data.rendering.ho3d import make_ho3d
from mano_trainers.errors import DataError
from mano_trainers.preflight.data.images import check_images
from mano_trainers.preflight.subject import make_subject

COUNT, SIZE, CROP = 24, 48, 1.3


def config(crop: float | None, **data: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "data": {"embedded_count": COUNT, "image_size": SIZE, "val_fraction": 0.25, "crop": crop} | data,
            "eval": {"mesh_images": 4},
            "device": "cpu",
        }
    )


def in_file(data: LoadedData) -> Array:
    """Where the joints are in the pictures as they are on disk."""
    return project(data.labels.intrinsics, data.labels.joints_m) + data.corners_px[:, None]


@given(
    seed=st.integers(0, 2**32 - 1),
    crop=st.floats(1.0, 5.0),
    spread=st.floats(8.0, 300.0),
)
def test_a_square_has_the_size_asked_for_and_its_camera_sees_the_same(seed: int, crop: float, spread: float) -> None:
    rng = np.random.default_rng(seed)
    joints_m = rng.normal(0, 0.04, (3, 21, 3)) + np.array([0, 0, 0.6])
    cameras = np.tile(np.array([[spread * 10, 0, 112], [0, spread * 9, 110], [0, 0, 1.0]]), (3, 1, 1))
    pixels = project(cameras, joints_m)
    boxes = square_boxes(pixels, crop)
    sides = boxes[:, 2:] - boxes[:, :2]
    longest = (pixels.max(1) - pixels.min(1)).max(1)
    assert (sides[:, 0] == sides[:, 1]).all()
    assert np.all((sides[:, 0] >= crop * longest) & (sides[:, 0] <= np.maximum(16, crop * longest + 1)))
    np.testing.assert_allclose(
        project(cut_intrinsics(cameras, boxes), joints_m) + boxes[:, None, :2], pixels, atol=1e-9
    )
    middle = (pixels.max(1) + pixels.min(1)) / 2
    assert np.abs(boxes[:, :2] + sides / 2 - middle).max() <= 0.5 + 1e-9


@given(seed=st.integers(0, 2**32 - 1))
def test_squares_are_moved_into_the_picture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corner, side = rng.integers(-80, 200, (50, 2)), rng.integers(16, 300, (50, 1))
    boxes = np.concatenate([corner, corner + side], axis=1)
    moved = inside(boxes, 224)
    sides = moved[:, 2:] - moved[:, :2]
    assert (sides == np.minimum(side, 224)).all()
    assert moved.min() >= 0
    assert moved.max() <= 224
    fits = (boxes.min(1) >= 0) & (boxes.max(1) <= 224)
    np.testing.assert_array_equal(moved[fits], boxes[fits])


@given(size=st.integers(32, 1024), share=st.floats(0.05, 2.0))
def test_the_centred_box_is_in_the_middle(size: int, share: float) -> None:
    left, top, right, bottom = centred_box(size, share)
    assert (left, right) == (top, bottom)
    assert abs(left + right - size) <= 1
    assert right - left == min(size, max(16, round(share * size)))


def test_trained_hands_fill_their_picture_and_labels_follow() -> None:
    whole, cut = load_data(config(None).data), load_data(config(CROP).data)
    np.testing.assert_allclose(in_file(cut), in_file(whole), atol=1e-9)
    assert (whole.sides_px == SIZE).all()
    own = (
        project(cut.labels.intrinsics, cut.labels.joints_m)[cut.train_poses] / cut.sides_px[cut.train_poses, None, None]
    )
    longest = (own.max(1) - own.min(1)).max(1)
    free = (cut.corners_px[cut.train_poses] > 0).all(1) & (
        cut.corners_px[cut.train_poses] + cut.sides_px[cut.train_poses, None] < SIZE
    ).all(1)
    assert free.any()
    assert (longest * CROP >= 0.95).all()
    assert np.abs(longest[free] * CROP - 1).max() < 0.05
    assert np.abs((own.max(1) + own.min(1)) / 2 - 0.5)[free].max() < 0.05
    assert np.all((own >= 0) & (own <= 1))


def test_a_square_as_large_as_the_picture_is_the_picture() -> None:
    whole, cut = load_data(config(None).data), load_data(config(5.0).data)
    np.testing.assert_array_equal(whole.images, cut.images)
    np.testing.assert_array_equal(whole.labels.intrinsics, cut.labels.intrinsics)
    assert cut.fingerprint != whole.fingerprint
    np.testing.assert_array_equal(cut.labels.theta, whole.labels.theta)
    np.testing.assert_array_equal(cut.train_poses, whole.train_poses)


def test_an_image_is_the_cut_part_of_its_file() -> None:
    data = load_data(config(CROP).data)
    for row, picture in data.examples:
        assert picture.box is not None
        with Image.open(picture.path) as image:
            part = image.convert("RGB").crop(picture.box)
        way = Image.Resampling.BOX if part.width > SIZE else Image.Resampling.BICUBIC
        np.testing.assert_array_equal(data.images[row], np.asarray(part.resize((SIZE, SIZE), way)))
        pose = data.labels.pose_index[row]
        assert picture.box[:2] == tuple(data.corners_px[pose])


@pytest.mark.parametrize("validate_on", ["held_out", "evaluation"])
def test_no_label_of_a_validated_picture_decides_what_is_shown_of_it(validate_on: str, tmp_path: Path) -> None:
    def loaded(root: str) -> LoadedData:
        return load_data(config(CROP, root=root, validate_on=validate_on).data)

    before = loaded("embedded")
    first = before.val_poses[0]
    file = "evaluation" if validate_on == "evaluation" else "training"
    moved = shutil.copytree(before.examples[0][1].path.parents[2], tmp_path / "set")
    labels = json.loads((moved / f"{file}_xyz.json").read_text())
    row = int(first) - (COUNT if validate_on == "evaluation" else 0)
    labels[row] = (np.array(labels[row]) + np.array([0.03, 0.02, 0.0])).tolist()  # it is elsewhere, and just as large
    (moved / f"{file}_xyz.json").write_text(json.dumps(labels))
    after = loaded(str(moved))
    assert not np.allclose(in_file(after)[first], in_file(before)[first])
    poses = before.val_poses
    assert len({*before.sides_px[poses], *after.sides_px[poses]}) == 1
    np.testing.assert_array_equal(after.corners_px[poses], before.corners_px[poses])
    assert (before.corners_px[poses] == (SIZE - before.sides_px[poses[0]]) // 2).all()
    trained = before.sides_px[before.train_poses]
    assert trained.min() < before.sides_px[poses[0]] < trained.max()


def test_masks_are_cut_like_their_images() -> None:
    whole, cut = (load_data(config(crop).data, with_masks=True) for crop in (None, CROP))
    assert whole.masks is not None
    assert cut.masks is not None
    for pose in cut.train_poses[:5]:
        left, top = cut.corners_px[pose].astype(int)
        right, bottom = (cut.corners_px[pose] + cut.sides_px[pose]).astype(int)
        part = Image.fromarray(np.array(whole.masks.alpha[pose])).crop((left, top, right, bottom))
        way = Image.Resampling.BOX if part.width > SIZE else Image.Resampling.BICUBIC
        apart = np.abs(np.asarray(part.resize((SIZE, SIZE), way)).astype(int) - cut.masks.alpha[pose])
        assert apart.max() <= 1


def test_ho3d_applies_the_factor_and_keeps_labels_of_each_factor_apart(tmp_path: Path) -> None:
    make_ho3d(tmp_path / "set", 8, 64, 0)
    sides: dict[float | None, Array] = {}
    for crop in (None, 1.5, 3.0, 1.5):
        labels, pictures, _ = read_set(tmp_path / "set", "ho3d", "embedded", keep=tmp_path / "kept", crop=crop)
        pixels = project(labels.intrinsics, labels.joints_m)
        box = np.array([picture.box for picture in pictures])
        sides[crop] = box[:, 2] - box[:, 0]
        middle = (pixels.max(1) + pixels.min(1)) / 2
        assert np.abs(middle - sides[crop][:, None] / 2).max() <= 1
    np.testing.assert_array_equal(sides[None], sides[1.5])
    assert np.abs(sides[3.0] - 2 * sides[1.5]).max() <= 1


def test_preflight_finds_the_joints_on_the_masks_of_cut_pictures() -> None:
    chosen = config(CROP, embedded_count=60)
    subject = make_subject(load_data(chosen.data), chosen, [chosen], torch.device("cpu"))
    result = next(each for each in check_images(subject) if each.name == "labels.projection")
    assert result.status == "PASS", result
    assert int(result.measured.split("picture, ")[1].split("%")[0]) > 85


@pytest.mark.parametrize(
    "file", ["training/rgb/00000000.jpg", "training/rgb/00000021.jpg", "training/mask/00000003.jpg"]
)
@pytest.mark.parametrize("size", [(SIZE + 8, SIZE), (2 * SIZE, 2 * SIZE)])
def test_files_of_another_size_or_shape_are_refused(file: str, size: tuple[int, int], tmp_path: Path) -> None:
    make_freihand(tmp_path / "set", 8, SIZE, 0, workers=1)
    Image.new("RGB", size).save(tmp_path / "set" / file)
    with pytest.raises(DataError, match=r"a square .*is expected") as refused:
        load_data(config(CROP, root=str(tmp_path / "set")).data, with_masks=True)
    if file != "training/rgb/00000000.jpg" or size[0] != size[1]:
        assert refused.value.where == str(tmp_path / "set" / file)


def test_hands_outside_the_middle_fail_the_preflight(tmp_path: Path) -> None:
    """Small pictures, each in a corner of a larger one, with labels that follow."""
    make_freihand(tmp_path / "set", 40, 32, 0, workers=1)
    cameras = json.loads((tmp_path / "set" / "training_K.json").read_text())
    for file in sorted((tmp_path / "set" / "training" / "rgb").iterdir()):
        corner = 64 * (int(file.stem) % 40 % 2), 64 * (int(file.stem) % 40 // 2 % 2)
        whole = Image.new("RGB", (96, 96), (90, 120, 80))
        with Image.open(file) as picture:
            whole.paste(picture, corner)
        whole.save(file)
    for pose, camera in enumerate(cameras):
        camera[0][2] += 64 * (pose % 2)
        camera[1][2] += 64 * (pose // 2 % 2)
    (tmp_path / "set" / "training_K.json").write_text(json.dumps(cameras))
    found = {}
    for crop in (None, 1.5):
        chosen = config(crop, root=str(tmp_path / "set"))
        subject = make_subject(load_data(chosen.data), chosen, [chosen], torch.device("cpu"))
        found[crop] = next(each for each in check_images(subject) if each.name == "split.inside")
    assert found[None].status == "PASS"
    assert found[1.5].status == "FAIL"
    assert "100% of trained ones" in found[1.5].measured


def test_the_square_of_validation_follows_from_trained_poses_alone(tmp_path: Path) -> None:
    make_freihand(tmp_path / "set", COUNT, SIZE, 0, workers=1)
    before = load_data(config(CROP, root=str(tmp_path / "set")).data)
    joints_m = np.array(json.loads((tmp_path / "set" / "training_xyz.json").read_text()))
    wrists_m = joints_m[before.val_poses, :1]
    joints_m[before.val_poses] = wrists_m + 0.4 * (joints_m[before.val_poses] - wrists_m)
    (tmp_path / "set" / "training_xyz.json").write_text(json.dumps(joints_m.tolist()))
    after = load_data(config(CROP, root=str(tmp_path / "set")).data)
    assert after.crop_shares == before.crop_shares
    np.testing.assert_array_equal(after.sides_px, before.sides_px)


def test_kept_labels_are_those_of_exactly_this_factor(tmp_path: Path) -> None:
    make_ho3d(tmp_path / "set", 8, 480, 0)
    first, second = 1.5235597628, 1.5235605246
    kept: dict[float, list[Picture]] = {}
    for crop in (first, second):
        kept[crop] = read_set(tmp_path / "set", "ho3d", "embedded", keep=tmp_path / "kept", crop=crop)[1]
        assert kept[crop] == read_set(tmp_path / "set", "ho3d", "embedded", crop=crop)[1]
    assert len(list((tmp_path / "kept").glob("labels-*.npz"))) == 2


def test_an_impossible_square_is_reported_as_such(tmp_path: Path) -> None:
    make_freihand(tmp_path / "set", 8, SIZE, 0, workers=1)
    picture = tmp_path / "set" / "training" / "rgb" / "00000000.jpg"
    with pytest.raises(DataError, match="square around its hand is 50000 pixels wide") as refused:
        decode(Picture(picture, (0, 0, 50000, 50000)), SIZE)
    assert "damaged" in str(refused.value.help)
