"""Damage to the files of a rendered set, and the preflight check that names it. Files are replaced, since they may be
links to those of the sound set."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from mano_trainers.data import load
from mano_trainers.data.rendering.freihand import VERSIONS


def rewrite(root: Path, kind: str, how: Callable[[Any], Any]) -> None:
    path = root / f"training_{kind}.json"
    values = how(np.array(json.loads(path.read_text())))
    path.unlink()
    path.write_text(json.dumps(values.tolist()))


def replace_images(root: Path, how: Callable[[Image.Image], Image.Image]) -> None:
    for path in sorted((root / "training" / "rgb").iterdir()):
        with Image.open(path) as image:
            changed = how(image)
        path.unlink()
        changed.save(path)


def set_label_to_nan(values: Any) -> Any:
    values[5, 0, 9] = np.nan
    return values


def mirror_joints(values: Any) -> Any:
    return values * [-1.0, 1.0, 1.0]


def copy_a_training_image_into_validation(root: Path) -> None:
    labels, *_ = load.read_set(root, "freihand", "embedded")
    train, val = load.split_by_group(labels.group, 0.1)
    rgb = root / "training" / "rgb"
    (rgb / f"{val[0]:08d}.jpg").unlink()
    shutil.copy(rgb / f"{train[0]:08d}.jpg", rgb / f"{val[0]:08d}.jpg")


def shuffle_one_version(root: Path) -> None:
    """The third version of each image is that of the next pose: only a quarter of the pairs are wrong."""
    rgb = root / "training" / "rgb"
    count = len(list(rgb.iterdir())) // VERSIONS
    paths = [rgb / f"{index:08d}.jpg" for index in range(2 * count, 3 * count)]
    for index, path in enumerate(paths):
        path.rename(rgb / f"{index}.moved")
    for index, path in enumerate(paths):
        (rgb / f"{(index + 7) % count}.moved").rename(path)


def to_degrees(values: Any) -> Any:
    return np.concatenate([np.rad2deg(values[..., :48]), values[..., 48:]], axis=-1)


def repeat_the_first(values: Any) -> Any:
    return values[:1].repeat(len(values), axis=0)


def thumb_last(values: Any) -> Any:
    return values[:, [0, *range(5, 21), 1, 2, 3, 4]]


def three_times_the_focal_length(values: Any) -> Any:
    return values * [[3.0, 1.0, 1.0], [1.0, 3.0, 1.0], [1.0, 1.0, 1.0]]


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "millimetres": (lambda root: rewrite(root, "xyz", lambda values: values * 1000), "data.readable"),
    "hands of 2 cm": (lambda root: rewrite(root, "xyz", lambda values: values / 10), "labels.units"),
    "NaN in the labels": (lambda root: rewrite(root, "mano", set_label_to_nan), "data.readable"),
    "theta in degrees": (lambda root: rewrite(root, "mano", to_degrees), "labels.values"),
    "one label for all": (lambda root: rewrite(root, "mano", repeat_the_first), "labels.values"),
    "joints permuted": (lambda root: rewrite(root, "xyz", thumb_last), "labels.joint_order"),
    "left hands' joints": (lambda root: rewrite(root, "xyz", mirror_joints), "labels.handedness"),
    "other cameras": (lambda root: rewrite(root, "K", three_times_the_focal_length), "labels.projection"),
    "cameras of larger pictures": (
        lambda root: rewrite(root, "K", lambda values: values * [[3.0], [3.0], [1.0]]),
        "data.readable",
    ),
    "mirrored pictures": (lambda root: replace_images(root, ImageOps.mirror), "images.mirrored"),
    "black pictures": (lambda root: replace_images(root, lambda image: Image.new("RGB", image.size)), "images.content"),
    "training image in validation": (copy_a_training_image_into_validation, "split.images"),
    "one version shuffled": (shuffle_one_version, "pairing.rotation"),
}  # fmt: skip
