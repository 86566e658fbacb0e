"""Reading sets with a licensed hand: files in MANO's format, right and left."""

from pathlib import Path

import numpy as np
import pytest
from mano_pickles import mano_content, mirrored, python2_pickle
from PIL import Image

from mano_trainers.arrays import Array
from mano_trainers.config.data import DataConfig
from mano_trainers.data.load import load_data
from mano_trainers.data.readers.read import read_set
from mano_trainers.data.rendering.dexycb import make_dexycb
from mano_trainers.data.rendering.ho3d import make_ho3d
from mano_trainers.errors import DataError
from mano_trainers.hand.model import load_embedded_hand


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A DexYCB set with left hands, and the two hands' files."""
    make_dexycb(tmp_path / "dexycb", 8, 32, seed=0)
    hand = load_embedded_hand()
    (tmp_path / "MANO_RIGHT.pkl").write_bytes(python2_pickle(mano_content(hand)))
    (tmp_path / "MANO_LEFT.pkl").write_bytes(python2_pickle(mano_content(mirrored(hand))))
    return tmp_path


def test_hands_from_files_give_the_same_labels_as_the_embedded_one(files: Path) -> None:
    by_file, _, _ = read_set(files / "dexycb", "dexycb", str(files / "MANO_RIGHT.pkl"))
    embedded, _, _ = read_set(files / "dexycb", "dexycb", "embedded")
    for name in ("theta", "global_orient", "joints_m"):
        np.testing.assert_allclose(getattr(by_file, name), getattr(embedded, name), atol=1e-12)


def test_left_hands_need_the_left_file_beside_the_right_one(files: Path) -> None:
    (files / "MANO_LEFT.pkl").unlink()
    with pytest.raises(DataError, match=r"MANO_LEFT.pkl: no such file, and the data set shows left hands") as caught:
        read_set(files / "dexycb", "dexycb", str(files / "MANO_RIGHT.pkl"))

    assert "MANO_LEFT.pkl out of its archive" in str(caught.value.help)
    assert "MANO_RIGHT" not in str(caught.value.help)
    (files / "MANO_LEFT.pkl").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match="a Git LFS pointer") as caught:
        read_set(files / "dexycb", "dexycb", str(files / "MANO_RIGHT.pkl"))
    assert "MANO_RIGHT" not in str(caught.value.help)


def test_a_left_hand_to_train_with_is_refused(files: Path) -> None:
    with pytest.raises(DataError, match="is a left hand, but a right hand is needed"):
        read_set(files / "dexycb", "dexycb", str(files / "MANO_LEFT.pkl"))


def test_the_hand_of_the_config_reaches_the_training(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINERS_CACHE_DIR", str(files / "cache"))
    root, hand = str(files / "dexycb"), files / "MANO_RIGHT.pkl"
    other = load_embedded_hand().hands_mean + 0.1
    hand.write_bytes(python2_pickle({**mano_content(load_embedded_hand()), "hands_mean": other}))
    config = {"root": root, "format": "dexycb", "image_size": 32, "val_fraction": 0.3}
    with_file = load_data(DataConfig.model_validate({**config, "hand": str(hand)}))
    embedded = load_data(DataConfig.model_validate(config))
    np.testing.assert_array_equal(with_file.hand.hands_mean, other)
    assert not np.allclose(with_file.labels.joints_m, embedded.labels.joints_m)  # labels kept for one hand are its own


def test_kept_labels_are_read_again_when_a_picture_is_gone_or_stored_differently(tmp_path: Path) -> None:
    make_ho3d(tmp_path / "set", 8, 32, seed=0)
    _, pictures, _ = read_set(tmp_path / "set", "ho3d", "embedded", keep=tmp_path / "kept")
    path = pictures[3].path
    with Image.open(path) as image:
        image.save(path.with_suffix(".png"))
    path.unlink()
    _, again, _ = read_set(tmp_path / "set", "ho3d", "embedded", keep=tmp_path / "kept")
    assert again[3].path == path.with_suffix(".png")
    again[3].path.unlink()
    with pytest.raises(DataError, match="no such image, as"):
        read_set(tmp_path / "set", "ho3d", "embedded", keep=tmp_path / "kept")


def test_labels_kept_for_one_left_hand_are_not_used_for_another(files: Path) -> None:
    def theta() -> Array:
        return read_set(files / "dexycb", "dexycb", str(files / "MANO_RIGHT.pkl"), keep=files / "kept")[0].theta

    before = theta()
    left = mano_content(mirrored(load_embedded_hand()))
    (files / "MANO_LEFT.pkl").write_bytes(python2_pickle({**left, "hands_mean": left["hands_mean"] + 0.1}))
    assert not np.allclose(theta(), before)
