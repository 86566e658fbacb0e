import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mano_trainers.data.readers.freihand import read_freihand
from mano_trainers.data.rendering.freihand import make_freihand
from mano_trainers.data.rendering.poses import sample_orientations, sample_poses, sample_shapes
from mano_trainers.data.rendering.render import Look, close_wrist, render_hand, vertex_normals
from mano_trainers.errors import DataError
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.model import load_embedded_hand, load_gestures
from mano_trainers.rotations import matrix_from_axis_angle

COUNT, SIZE, EVALUATION_COUNT = 30, 64, 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "hands"
    make_freihand(out, COUNT, SIZE, seed=3, workers=1)
    return out


def labels(root: Path, split: str = "training") -> dict[str, Any]:
    return {
        name: np.array(json.loads((root / f"{split}_{name}.json").read_text()))
        for name in ("K", "mano", "xyz", "verts", "scale")
    }


def picture(root: Path, index: int, folder: str = "rgb", split: str = "training") -> Any:
    return np.asarray(Image.open(root / split / folder / f"{index:08d}.jpg")).astype(float)


def project(intrinsics: Any, points_m: Any) -> Any:
    pixels = np.einsum("nij,nkj->nki", intrinsics, points_m)
    return pixels[..., :2] / pixels[..., 2:]


@pytest.mark.parametrize(("split", "poses", "versions"), [("training", COUNT, 4), ("evaluation", EVALUATION_COUNT, 1)])
def test_layout_is_freihands(made: Path, split: str, poses: int, versions: int) -> None:
    shapes = {name: values.shape for name, values in labels(made, split).items()}
    assert shapes == {
        "K": (poses, 3, 3),
        "mano": (poses, 1, 61),
        "xyz": (poses, 21, 3),
        "verts": (poses, 778, 3),
        "scale": (poses,),
    }
    names = sorted(path.name for path in (made / split / "rgb").iterdir())
    assert names == [f"{index:08d}.jpg" for index in range(poses * versions)]
    assert picture(made, 0, split=split).shape == (SIZE, SIZE, 3)
    assert len(list((made / "training" / "mask").iterdir())) == COUNT
    assert not (made / "evaluation" / "mask").exists()


def test_the_reader_accepts_it(made: Path) -> None:
    read, images = read_freihand(made)
    assert len(images) == 4 * COUNT
    assert read.pose_index[COUNT + 2] == 2
    np.testing.assert_array_equal(read.theta, labels(made)["mano"][:, 0, 3:48])


@pytest.mark.parametrize("split", ["training", "evaluation"])
def test_joints_and_vertices_are_those_of_the_parameters(made: Path, split: str) -> None:
    stored = labels(made, split)
    mano, intrinsics = stored["mano"][:, 0], stored["K"]
    layer = HandLayer(load_embedded_hand(), torch.float64)
    theta, betas, orientation = (torch.as_tensor(mano[:, part]) for part in (slice(3, 48), slice(48, 58), slice(3)))
    joints = layer.joints(theta, betas, orientation).numpy()
    vertices = layer.vertices(theta, betas, orientation).numpy()
    focal = (intrinsics[:, 0, 0] + intrinsics[:, 1, 1]) / 2
    root = np.column_stack([mano[:, 58:60] - intrinsics[:, :2, 2], focal]) / mano[:, 60:]  # FreiHAND's rule
    moved = root[:, None] - joints[:, 9:10]
    np.testing.assert_allclose(stored["xyz"], joints + moved, atol=1e-7)
    np.testing.assert_allclose(stored["verts"], vertices + moved, atol=1e-6)
    np.testing.assert_allclose(stored["scale"], np.linalg.norm(joints[:, 9] - joints[:, 10], axis=1), atol=1e-7)
    assert ((root[:, 2] > 0.49) & (root[:, 2] < 0.91)).all()


def test_root_uv_is_the_perspective_projection_of_joint_9(made: Path) -> None:
    stored = labels(made)
    np.testing.assert_allclose(project(stored["K"], stored["xyz"])[:, 9], stored["mano"][:, 0, 58:60], atol=1e-4)


def test_the_joints_project_onto_the_hand_in_the_picture(made: Path) -> None:
    stored = labels(made)
    on_hand = []
    for index, joints in enumerate(project(stored["K"], stored["xyz"])):
        rows, columns = np.nonzero(picture(made, index, "mask") > 127)
        distances = np.hypot(joints[:, :1] - columns - 0.5, joints[:, 1:] - rows - 0.5).min(axis=1)
        on_hand.append(int((distances <= 2).sum()))
    assert np.mean(np.array(on_hand) >= 19) >= 0.95, on_hand


def test_the_mask_is_the_silhouette_of_the_vertices_and_fills_the_frame(made: Path) -> None:
    stored = labels(made)
    shifts = []
    for index, points in enumerate(project(stored["K"], stored["verts"])):
        rows, columns = np.nonzero(picture(made, index, "mask") > 127)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(box, [*points.min(axis=0), *points.max(axis=0)], atol=1.5)
        assert 0.5 < (points.max(axis=0) - points.min(axis=0)).max() / SIZE < 0.9
        shifts.append([box[0] + box[2], box[1] + box[3]] - points.min(axis=0) - points.max(axis=0))
    assert np.abs(np.mean(shifts, axis=0) / 2).max() < 0.2, "the picture is shifted by a fraction of a pixel"


def test_versions_show_one_hand_in_front_of_different_backgrounds(made: Path) -> None:
    for pose in range(COUNT):
        mask = picture(made, pose, "mask")
        versions = [picture(made, pose + version * COUNT) for version in range(4)]
        red, green, blue = versions[0][mask < 5].mean(axis=0)
        assert green > red + 20
        assert green > blue + 20
        for other in versions[1:]:
            assert np.abs(versions[0] - other)[mask < 5].mean() > 20
    # exposure aside the hand is the same: its pixels correlate over versions, background pixels do not
    unoccluded = [
        np.corrcoef(*(picture(made, pose + v * COUNT)[picture(made, pose, "mask") > 250].ravel() for v in (0, 1)))[0, 1]
        for pose in range(COUNT)
    ]
    assert np.median(unoccluded) > 0.8


def test_evaluation_poses_differ_from_training_poses(made: Path) -> None:
    training, evaluation = labels(made)["mano"][:, 0, 3:48], labels(made, "evaluation")["mano"][:, 0, 3:48]
    assert np.abs(training[:, None] - evaluation[None]).max(axis=-1).min() > 1e-2


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_seed_alone_decides_what_is_made(tmp_path: Path, made: Path) -> None:
    make_freihand(tmp_path / "two", COUNT, SIZE, seed=3, workers=2)
    assert files(tmp_path / "two") == files(made)
    make_freihand(tmp_path / "other", COUNT, SIZE, seed=4, workers=1)
    other = files(tmp_path / "other")
    assert all(other[name] != content for name, content in files(made).items())


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    make_freihand(tmp_path / "hands", 3, 32, 0, lambda done, total: seen.append((done, total)), workers=1)
    assert seen[-1] == (11, 11)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_an_existing_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="already exists"):
        make_freihand(tmp_path, 2, 32, 0, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_make_leaves_nothing_behind(tmp_path: Path, workers: int) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_freihand(tmp_path / "hands", 60, 32, 0, interrupt, workers)
    assert list(tmp_path.iterdir()) == []


def test_no_dimension_of_theta_is_constant_and_poses_stay_near_gestures() -> None:
    theta = sample_poses(2000, np.random.default_rng(0))
    assert theta.shape == (2000, 45)
    assert theta.std(axis=0).min() > np.deg2rad(2)
    assert np.abs(theta.mean(axis=0)).max() < 0.1  # the mean pose is subtracted
    gestures = np.stack(list(load_gestures().values()))
    nearest = np.abs(theta[:, None] - gestures).mean(axis=-1).min(axis=1)
    assert np.median(nearest) < 0.15
    assert np.abs(theta + load_embedded_hand().hands_mean).reshape(-1, 15, 3).max() < 2.3


def test_shapes_are_clipped_standard_normal() -> None:
    betas = sample_shapes(5000, np.random.default_rng(0))
    assert np.abs(betas).max() == 2.5
    assert abs(betas.std() - 1) < 0.05


def test_views_show_the_palm_of_a_more_or_less_upright_hand() -> None:
    rotations = matrix_from_axis_angle(torch.as_tensor(sample_orientations(4000, np.random.default_rng(0)))).numpy()
    palm_towards_camera = rotations @ [0, -1, 0] @ [0, 0, -1]  # the palm looks along -y at rest
    assert np.mean(palm_towards_camera > 0.7) > 0.8
    fingers = rotations @ [-1, 0, 0]
    lean_deg = np.rad2deg(np.arctan2(fingers[:, 0], -fingers[:, 1]))  # from upright; the picture's y runs down
    assert abs(lean_deg.mean()) < 2
    assert 25 < lean_deg.std() < 40


def test_the_hand_is_not_drawn_inside_out() -> None:
    """Seen from the palm, the palm's skin is in the picture and not the back's, and vice versa."""
    hand = load_embedded_hand()
    faces, normals = close_wrist(hand.f), vertex_normals(hand.v_template, hand.f)
    palm_share = (normals[:, 1] < 0).astype(float)
    red, blue = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
    look = Look(skin=blue, palm=red, light=np.array([0.0, 0.0, -1.0]), ambient=0.5)
    camera = np.array([[150.0, 0.0, 32.0], [0.0, 150.0, 32.0], [0.0, 0.0, 1.0]])
    palm_view = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    back_view = np.diag([-1.0, 1.0, -1.0]) @ palm_view
    for view, shown, hidden in ((palm_view, 0, 2), (back_view, 2, 0)):
        pixels, alpha = render_hand(hand.v_template @ view.T + [0, 0, 0.6], faces, palm_share, camera, 64, look)
        seen = pixels[alpha == 255].astype(float)
        assert len(seen) > 300
        assert np.mean(seen[:, shown] > seen[:, hidden]) > 0.9


def test_the_closed_mesh_is_watertight_and_faces_outwards() -> None:
    hand = load_embedded_hand()
    faces = close_wrist(hand.f)
    edges = {(int(a), int(b)) for face in faces for a, b in zip(face, np.roll(face, -1), strict=True)}
    assert len(edges) == 3 * len(faces)
    assert all((b, a) in edges for a, b in edges)
    a, b, c = hand.v_template[faces].transpose(1, 0, 2)
    volume_litre = np.einsum("fc,fc->", a, np.cross(b, c)) / 6 * 1e3
    assert 0.1 < volume_litre < 0.8
