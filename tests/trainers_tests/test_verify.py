"""Sound sets pass, each kind of damage is told with its file. On sets that were really written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sweeper.cli import main
from trainers.data.make import make_freihand
from trainers.data.make_dexycb import make_dexycb
from trainers.data.make_ho3d import make_ho3d
from trainers.data.verify import verify_set
from trainers.errors import DataError

COUNT = 8


@pytest.fixture
def hands(tmp_path: Path) -> Path:
    make_freihand(tmp_path / "hands", COUNT, 32, seed=0, workers=1)
    return tmp_path / "hands"


def test_a_sound_freihand_set(hands: Path) -> None:
    found = verify_set(hands, "freihand", "embedded")
    assert (found.images, found.poses, found.groups) == (4 * COUNT, COUNT, COUNT)
    assert found.error_max_mm < 1e-3
    assert found.inside > 0.95
    assert found.on_mask is not None
    assert found.on_mask > 0.8


def test_sound_sets_in_the_other_layouts(tmp_path: Path) -> None:
    make_ho3d(tmp_path / "ho3d", COUNT, 32, seed=0)
    make_dexycb(tmp_path / "dexycb", COUNT, 32, seed=0)
    for found, images in (
        (verify_set(tmp_path / "ho3d", "ho3d", "embedded"), COUNT),
        (verify_set(tmp_path / "dexycb", "dexycb", "embedded"), 2 * COUNT),
    ):
        assert found.images == found.poses == images
        assert found.groups == 4
        assert found.error_max_mm < 1e-3
        assert found.inside > 0.9
        assert found.on_mask is None


def change(root: Path, name: str, how: Callable[[Any], Any]) -> None:
    path = root / f"training_{name}.json"
    path.write_text(json.dumps(how(np.array(json.loads(path.read_text()))).tolist()))


def set_at(index: tuple[int, ...], value: float) -> Callable[[Any], Any]:
    def how(values: Any) -> Any:
        values[index] = value
        return values

    return how


def cut(root: Path, name: str) -> None:
    path = root / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "truncated JPEG": (lambda root: cut(root, "training/rgb/00000013.jpg"), "00000013.jpg", "cannot be decoded"),
    "truncated evaluation JPEG": (
        lambda root: cut(root, "evaluation/rgb/00000003.jpg"), "evaluation/rgb/00000003.jpg", "cannot be decoded"),
    "no JPEG at all": (
        lambda root: (root / "training/rgb/00000002.jpg").write_text("<html>"), "00000002.jpg", "cannot be decoded"),
    "truncated mask": (lambda root: cut(root, "training/mask/00000004.jpg"), "mask/00000004.jpg", "cannot be decoded"),
    "missing JSON": (lambda root: (root / "training_xyz.json").unlink(), "training_xyz.json", "no such file"),
    "truncated JSON": (lambda root: cut(root, "training_K.json"), "training_K.json", "not valid JSON"),
    "NaN": (
        lambda root: change(root, "mano", set_at((5, 0, 9), np.nan)), "training_mano.json", "label 5 is not finite"),
    "a label too few": (
        lambda root: change(root, "K", lambda values: values[:-1]), "training_K.json", "7 labels where"),
    "an image too few": (lambda root: (root / "training/rgb/00000031.jpg").unlink(), "rgb", "31 images for 8 labels"),
    "a mask too few": (lambda root: (root / "training/mask/00000006.jpg").unlink(), "00000006.jpg", "no such image"),
    "millimetres": (
        lambda root: change(root, "xyz", lambda values: values * 1000), "training_xyz.json", "these are not metres"),
    "one joint is off": (
        lambda root: change(root, "xyz", set_at((3, 8, 1), 0.1)), "training_xyz.json", "joints of label 3 are up to"),
    "theta shifted by one": (
        lambda root: change(root, "mano", lambda values: np.roll(values, 1, axis=-1)), "training_xyz.json",
        "from those of its parameters"),
    "joints in MANO's order": (
        lambda root: change(root, "xyz", lambda values: values[:, ::-1]), "training_xyz.json",
        "from those of its parameters"),
    "cameras of other pictures": (
        lambda root: change(root, "K", lambda values: values * np.array([[7.0], [7.0], [1.0]])), "training_xyz.json",
        "of the joints lie in their pictures"),
    "masks of other pictures": (
        lambda root: [Image.new("L", (32, 32)).save(path) for path in (root / "training/mask").iterdir()], "mask",
        "of the joints lie on the hand"),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(DAMAGES))
def test_damage_is_told_with_its_file(hands: Path, kind: str) -> None:
    damage, where, words = DAMAGES[kind]
    damage(hands)
    with pytest.raises(DataError, match=words) as caught:
        verify_set(hands, "freihand", "embedded")
    assert caught.value.where is not None
    assert caught.value.where.endswith(where)


def test_another_hand_is_told(hands: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        verify_set(hands, "freihand", "nowhere/MANO_RIGHT.pkl")


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    assert main(["data", "make", "--format", "ho3d", "--out", str(out), "--count", "8", "--size", "32"]) == 0
    assert main(["data", "verify", str(out), "--format", "ho3d"]) == 0
    assert "OK: 8 images of 8 poses in 4 groups" in capsys.readouterr().out
    assert main(["data", "verify", str(out), "--format", "ho3d", "--json"]) == 0
    assert json.loads(capsys.readouterr().out).items() >= {"images": 8, "poses": 8, "groups": 4}.items()
    picture = sorted(out.glob("train/MC1/rgb/*.jpg"))[1]
    cut(picture.parent, picture.name)
    assert main(["data", "verify", str(out), "--format", "ho3d"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: cannot be decoded")
    assert f"  --> {picture}" in error
    assert "help: " in error
