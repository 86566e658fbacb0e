import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mano_trainers.data.readers.freihand import read_freihand
from mano_trainers.errors import DataError

POSES = 4


def labels() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "mano": rng.normal(size=(POSES, 1, 61)).tolist(),
        "xyz": (rng.uniform(-0.08, 0.08, size=(POSES, 21, 3)) + np.array([0, 0, 0.7])).tolist(),
        "K": np.tile(np.array([[300.0, 0, 16], [0, 300.0, 16], [0, 0, 1]]), (POSES, 1, 1)).tolist(),
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of 4 poses in 2 versions."""
    (tmp_path / "training" / "rgb").mkdir(parents=True)
    for index in range(2 * POSES):
        Image.new("RGB", (32, 32), (index, 0, 0)).save(tmp_path / "training" / "rgb" / f"{index:08d}.jpg")
    for name, values in labels().items():
        (tmp_path / f"training_{name}.json").write_text(json.dumps(values))
    return tmp_path


def test_the_61_values_are_split_as_freihand_stores_them(root: Path) -> None:
    read, images = read_freihand(root)
    mano = np.array(labels()["mano"])[:, 0]
    np.testing.assert_array_equal(read.global_orient, mano[:, :3])
    np.testing.assert_array_equal(read.theta, mano[:, 3:48])
    np.testing.assert_array_equal(read.betas, mano[:, 48:58])
    assert [picture.path.name for picture in images] == [f"{index:08d}.jpg" for index in range(8)]


def test_an_image_shows_the_pose_of_its_index_modulo_the_number_of_labels(root: Path) -> None:
    read, _ = read_freihand(root)
    assert read.pose_index.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


def write(root: Path, name: str, values: Any) -> None:
    (root / f"training_{name}.json").write_text(json.dumps(values))


def test_millimetres_instead_of_metres_are_reported(root: Path) -> None:
    write(root, "xyz", (1000 * np.array(labels()["xyz"])).tolist())
    with pytest.raises(DataError, match="these are not metres") as caught:
        read_freihand(root)
    assert caught.value.help == "divide millimetres by 1000"


def test_the_first_label_that_is_not_finite_is_named(root: Path) -> None:
    values = labels()["mano"]
    values[2][0][7] = float("nan")
    write(root, "mano", values)
    with pytest.raises(DataError, match=r"training_mano.json: label 2 is not finite"):
        read_freihand(root)


def test_labels_that_differ_in_number_are_reported_with_both_counts(root: Path) -> None:
    write(root, "xyz", labels()["xyz"][:3])
    with pytest.raises(DataError, match=r"training_xyz.json: contains 3 labels, but training_mano.json contains 4"):
        read_freihand(root)


def test_a_flat_mano_list_is_reported_with_its_shape(root: Path) -> None:
    write(root, "mano", np.zeros((POSES, 61)).tolist())
    with pytest.raises(DataError, match=r"has shape \(4, 61\), but \(N, 1, 61\) is expected"):
        read_freihand(root)


def test_a_missing_file_and_a_truncated_one_are_reported(root: Path) -> None:
    path = root / "training_K.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(DataError, match=r"training_K.json: not valid JSON"):
        read_freihand(root)
    path.unlink()
    with pytest.raises(DataError, match=r"training_K.json: no such file"):
        read_freihand(root)


def test_a_missing_image_is_reported(root: Path) -> None:
    (root / "training" / "rgb" / "00000005.jpg").unlink()
    with pytest.raises(DataError, match="no such image"):
        read_freihand(root)
    Image.new("RGB", (32, 32)).save(root / "training" / "rgb" / "00000099.jpg")
    with pytest.raises(DataError, match=r"00000005.jpg: no such image"):
        read_freihand(root)


def test_a_folder_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_freihand(tmp_path / "nowhere")
