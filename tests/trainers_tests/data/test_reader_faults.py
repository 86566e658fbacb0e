"""Damaged sets in HO-3D's and DexYCB's layouts: each fault is reported with its file."""

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mano_trainers.data.readers import dexycb, ho3d
from mano_trainers.data.readers.labels import Labels, Picture
from mano_trainers.data.rendering.dexycb import make_dexycb
from mano_trainers.data.rendering.ho3d import make_ho3d
from mano_trainers.errors import DataError
from mano_trainers.hand.mirror import mirror_hand
from mano_trainers.hand.model import load_embedded_hand

COUNT, SIZE = 10, 48


def read_ho3d(root: Path) -> tuple[Labels, list[Picture]]:
    return ho3d.read_ho3d(root, load_embedded_hand())


def read_dexycb(root: Path) -> tuple[Labels, list[Picture]]:
    return dexycb.read_dexycb(root, load_embedded_hand(), mirror_hand(load_embedded_hand()))


def metas(root: Path) -> list[tuple[Path, dict[str, Any]]]:
    return [(path, pickle.loads(path.read_bytes())) for path in sorted(root.glob("train/*/meta/*.pkl"))]


def test_faults_in_ho3d_name_the_file(tmp_path: Path) -> None:
    root = tmp_path / "set"
    make_ho3d(root, COUNT, SIZE, seed=1)
    path, meta = metas(root)[4]
    joints = meta["handJoints3D"]
    for changes, words in (
        ({"handJoints3D": joints * 1000}, "these are not metres"),
        ({"handPose": np.full(48, np.nan)}, "handPose is not finite"),
        ({"handJoints3D": joints[0]}, "handJoints3D is not an array of numbers of shape"),
        ({"handBeta": None}, "handBeta is not an array of numbers of shape"),
        ({"camMat": np.zeros((3, 3))}, "cannot belong to a picture of 64 x 48 pixels"),
        ({"camMat": meta["camMat"].T}, "cannot belong to"),
        ({"camMat": meta["camMat"] * [[1, 1, 9], [1, 1, 9], [1, 1, 1]]}, "cannot belong to"),
        ({"handJoints3D": joints + np.array([0, 0, 9])}, "behind the camera"),
    ):
        path.write_bytes(pickle.dumps({**meta, **changes}, protocol=2))
        with pytest.raises(DataError, match=words) as caught:
            read_ho3d(root)
        assert caught.value.where == str(path)
    of_evaluation = {"camMat": meta["camMat"], "handJoints3D": joints[0], "handBoundingBox": [0, 0, 9, 9]}
    without_shape = {key: value for key, value in meta.items() if key != "handBeta"}
    for content, words in (
        (of_evaluation, "evaluation split: only its wrist is published, not handPose, handBeta, handTrans$"),
        (without_shape, "lacks handBeta$"),
    ):
        path.write_bytes(pickle.dumps(content, protocol=2))
        with pytest.raises(DataError) as caught:
            read_ho3d(root)
        assert re.search(words, caught.value.what)
    path.write_bytes(b"\x80\x02cposix\nsystem\nU\x04true\x85R.")
    with pytest.raises(DataError, match="nothing of it was run"):
        read_ho3d(root)
    path.write_bytes(pickle.dumps(meta, protocol=2))
    picture = path.parents[1] / "rgb" / f"{path.stem}.jpg"
    picture.unlink()
    with pytest.raises(DataError, match="no such image, as"):
        read_ho3d(root)


def test_faults_in_dexycb_name_the_file(tmp_path: Path) -> None:
    root = tmp_path / "set"
    make_dexycb(root, COUNT, SIZE, seed=1)
    path = sorted(root.glob("*/*/*/labels_000001.npz"))[0]
    good = path.read_bytes()
    with np.load(path, allow_pickle=False) as stored:
        pose, joints = stored["pose_m"], stored["joint_3d"]

    def told(words: str, where: Path) -> None:
        with pytest.raises(DataError, match=words) as caught:
            read_dexycb(root)
        assert caught.value.where == str(where)

    for pose_m, joint_3d, words in (
        (pose, joints * 1000, "these are not metres"),
        (pose * np.nan, joints, "pose_m is not finite"),
        (pose[:, :48], joints, "pose_m is not an array of numbers of shape"),
        (np.array([[None] * 51]), joints, "cannot be read: Object arrays"),
    ):
        np.savez(path, pose_m=pose_m, joint_3d=joint_3d)
        told(words, path)
    np.savez(path, pose_m=pose, joint_3d=joints * np.float32([1, 1, -1]))
    told("behind the camera", path)
    path.write_bytes(good[:100])
    told("cannot be read", path)
    path.write_bytes(good)
    some = joints.copy()
    some[0, 7] = -1
    np.savez(path, pose_m=pose, joint_3d=some)
    assert len(read_dexycb(root)[1]) == 2 * COUNT - 1  # a frame with a missing joint is left out
    path.unlink()
    told("contains 3 labels, but meta.yml says 4", path.parent)
    path.write_bytes(good)
    camera_file = sorted(root.glob("calibration/intrinsics/*.yml"))[0]
    sound = camera_file.read_text()
    camera_file.write_text(sound.replace("ppx: ", "ppx: -5"))
    told("cannot belong to", camera_file)
    camera_file.write_text(sound)
    shape_file = sorted(root.glob("calibration/mano_*/mano.yml"))[0]
    shape_file.write_text("betas: [1, 2]")
    told("betas are not 10 finite numbers", shape_file)
    shape_file.unlink()
    told("no such file", shape_file)
