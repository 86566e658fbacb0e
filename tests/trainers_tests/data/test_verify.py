"""Sound sets pass, and each kind of damage is reported with its file, on sets that were really written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mano_trainers.data.rendering.dexycb import make_dexycb
from mano_trainers.data.rendering.freihand import make_freihand
from mano_trainers.data.rendering.ho3d import make_ho3d
from mano_trainers.data.verify import verify_set
from mano_trainers.errors import DataError
from sweeper.cli.main import main

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


def add_at(label: int, move: list[float]) -> Callable[[Any], Any]:
    def how(values: Any) -> Any:
        values[label] += np.array(move)
        return values

    return how


def enlarge(path: Path) -> None:
    with Image.open(path) as image:
        image.resize((64, 64)).save(path)


def zero(root: Path, name: str) -> None:
    content = (root / name).read_bytes()
    (root / name).write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def instead(path: Path) -> Path:
    path.unlink()
    return path


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
        lambda root: change(root, "K", lambda values: values[:-1]), "training_K.json", "7 labels, but"),
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
        lambda root: change(root, "K", lambda values: values * np.array([[9.0, 1, 1], [1, 9.0, 1], [1, 1, 1]])),
        "training_xyz.json", "of the joints lie in their pictures"),
    "cameras of larger pictures": (
        lambda root: change(root, "K", lambda values: values * np.array([[7.0], [7.0], [1.0]])), "training_K.json",
        "the camera matrix of label 0 cannot belong to a picture of 32 x 32"),
    "no camera": (
        lambda root: change(root, "K", set_at((5,), 0.0)), "training_K.json", "the camera matrix of label 5"),
    "a hand moved to the side": (
        lambda root: change(root, "xyz", add_at(2, [1.0, 0, 0])), "training_xyz.json", "0% of the joints of label 2"),
    "a hand behind the camera": (
        lambda root: change(root, "xyz", add_at(2, [0, 0, -2.0])), "training_xyz.json", "label 2 is behind the camera"),
    "a mask of another picture": (
        lambda root: Image.new("L", (32, 32)).save(root / "training/mask/00000005.jpg"), "00000005.jpg",
        "no joint of label 5"),
    "labels of the first half": (
        lambda root: [change(root, name, lambda values: values[:4]) for name in ("K", "mano", "xyz")], "training/rgb",
        "32 images for 4 labels, 8 of each"),
    "labels and images of the first few": (
        lambda root: [change(root, name, lambda values: values[:2]) for name in ("K", "mano", "xyz")]
        + [(root / f"training/rgb/{index:08d}.jpg").unlink() for index in range(8, 32)], "training/mask",
        "8 masks for 2 labels"),
    "pictures of another size": (
        lambda root: [enlarge(root / f"training/rgb/{index:08d}.jpg") for index in range(9, 32)], "00000009.jpg",
        "64 x 64 pixels, but 00000000.jpg has 32 x 32"),
    "all pictures of another size": (
        lambda root: [enlarge(path) for path in (root / "training/rgb").iterdir()], "training_K.json",
        "the camera of label 0 has its centre at"),
    "JPEG with zeros for an end": (lambda root: zero(root, "training/rgb/00000013.jpg"), "00000013.jpg", "the end of"),
    "a folder named like an image": (
        lambda root: instead(root / "training/rgb/00000013.jpg").mkdir(), "00000013.jpg", "cannot be"),
    "a folder named like labels": (lambda root: instead(root / "training_K.json").mkdir(), "_K.json", "cannot be read"),
    "nested without end": (
        lambda root: (root / "training_K.json").write_text("[" * 200_000), "training_K.json", "not valid JSON"),
    "a number without end": (
        lambda root: (root / "training_K.json").write_text("9" * 5000), "training_K.json", "not valid JSON"),
    "a number too large": (
        lambda root: (root / "training_K.json").write_text(f"[[{'9' * 400}]]"), "training_K.json", "not a list of"),
    "evaluation labels of other pictures": (
        lambda root: (root / "evaluation_xyz.json").write_text(
            json.dumps(json.loads((root / "evaluation_xyz.json").read_text())[::-1])), "evaluation_xyz.json",
        "from those of its parameters"),
    "masks of other pictures": (
        lambda root: [Image.new("L", (32, 32)).save(path) for path in (root / "training/mask").iterdir()], "mask",
        "of the joints lie on the hand"),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(DAMAGES))
def test_damage_is_reported_with_its_file(hands: Path, kind: str) -> None:
    damage, where, words = DAMAGES[kind]
    damage(hands)
    with pytest.raises(DataError, match=words) as caught:
        verify_set(hands, "freihand", "embedded")
    assert caught.value.where is not None
    assert caught.value.where.endswith(where)


def test_what_is_left_out_and_the_evaluation_are_reported(hands: Path, tmp_path: Path) -> None:
    assert verify_set(hands, "freihand", "embedded").evaluation == "8 images"
    for name in ("mano", "xyz", "verts"):  # a separate download
        (hands / f"evaluation_{name}.json").unlink()
    assert verify_set(hands, "freihand", "embedded").evaluation == "8 images without labels"
    make_ho3d(tmp_path / "ho3d", COUNT, 32, seed=0)
    found = verify_set(tmp_path / "ho3d", "ho3d", "embedded")
    assert found.left_out == len(list((tmp_path / "ho3d").glob("train/*/meta/*.pkl"))) - COUNT > 0
    assert f"{found.left_out} frames left out" in str(found)


def test_a_missing_hand_file_is_reported(hands: Path) -> None:
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
