"""A subset holds the same hands in the same pictures, under labels that belong to them."""

from pathlib import Path

import numpy as np
import pytest

from mano_trainers.data import subset
from mano_trainers.data.readers.freihand import read_freihand
from mano_trainers.data.rendering.freihand import make_freihand
from mano_trainers.data.subset import cut_subset
from mano_trainers.data.verify import verify_set
from mano_trainers.errors import DataError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "set"
    make_freihand(root, 23, 32, seed=0, workers=1)
    return root


def test_images_keep_their_labels_in_every_version(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "part"
    assert cut_subset(whole, out, 7) == (28, 7)
    labels, pictures = read_freihand(whole)
    few, shown = read_freihand(out)
    chosen = [number * 23 // 7 for number in range(7)]
    np.testing.assert_array_equal(few.theta, labels.theta[chosen])
    np.testing.assert_array_equal(few.joints_m, labels.joints_m[chosen])
    assert len(shown) == 28
    for image, picture in enumerate(shown):
        source = pictures[image // 7 * 23 + chosen[image % 7]]
        assert picture.path.read_bytes() == source.path.read_bytes()
    found = verify_set(out, "freihand", "embedded")  # masks and evaluation too
    assert found.on_mask is not None
    assert found.evaluation == "7 images"
    assert not (out / "training_verts.json").exists()


def test_files_are_copied_where_links_are_impossible(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr(subset.os, "link", refuse)
    assert cut_subset(whole, tmp_path / "part", 2) == (8, 2)
    assert read_freihand(tmp_path / "part")[1][0].path.stat().st_nlink == 1


def test_nothing_is_left_of_a_cut_that_fails(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains 23 poses, so a subset has 2 to 23, but got 24"):
        cut_subset(whole, tmp_path / "part", 24)
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError, match="already exists"):
        cut_subset(whole, tmp_path / "there", 2)
    cut_subset(whole, tmp_path / "broken", 20)
    (tmp_path / "broken" / "training" / "mask" / "00000003.jpg").unlink()
    with pytest.raises(DataError, match=r"mask/00000003\.jpg: no such image"):
        cut_subset(tmp_path / "broken", tmp_path / "part", 20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "there"]


def test_a_set_cut_by_hand_or_partly_unpacked_is_refused_with_advice(whole: Path, tmp_path: Path) -> None:
    cut_subset(whole, tmp_path / "set", 20)
    images = sorted((tmp_path / "set" / "training" / "rgb").iterdir())
    for path in images[-3:]:
        path.unlink()
    with pytest.raises(DataError, match="77 images for 20 labels") as caught:
        read_freihand(tmp_path / "set")
    assert "sweeper data subset DIR OUT --count N" in str(caught.value.help)
    images[5].unlink()
    with pytest.raises(DataError, match="no such image among 76") as caught:
        read_freihand(tmp_path / "set")
    assert "sweeper data subset DIR OUT --count N" in str(caught.value.help)
