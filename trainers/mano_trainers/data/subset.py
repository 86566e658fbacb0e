"""Cuts a smaller set in FreiHAND's layout out of a larger one, so that every image keeps its label.

Image i shows pose i % N, so taking the first files of a folder, or the first lines of a label file, pairs images with
the labels of other poses.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np

from mano_trainers.data.readers.freihand import Split, list_images, read_freihand
from mano_trainers.errors import DataError

LABELS: Final = ("K", "mano", "xyz", "scale")
"""`verts` is left out: it is by far the largest file, nothing here reads it, and it can be computed from the others."""


def cut_subset(root: Path, out: Path, count: int) -> tuple[int, int]:
    """Make `out` from evenly spaced poses of `root`, in all their image versions, with masks, labels and evaluation.

    Images are hard links if the file system allows it, otherwise copies. `out` appears whole or not at all.

    Args:
        root: folder in FreiHAND's layout.
        out: folder to create.
        count: poses of the training split to keep, at least 2; as many of the evaluation split, or all there are.

    Returns:
        The numbers of training and evaluation images.

    Raises:
        DataError: `out` exists, the set is damaged, or contains fewer poses.
    """
    if out.exists():
        raise DataError("already exists", str(out), "choose another folder, or delete this one first")
    labels, _ = read_freihand(root)
    poses = len(labels.theta)
    if not 2 <= count <= poses:
        raise DataError(f"contains {poses} poses, so a subset has 2 to {poses}, but got {count}", str(root))
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        shown = _cut_split(root, partial, "training", _spaced(poses, count), poses)
        evaluated = 0
        if (root / "evaluation" / "rgb").is_dir():
            images = len(list_images(root, "evaluation"))
            evaluated = _cut_split(root, partial, "evaluation", _spaced(images, min(count, images)), images)
        partial.rename(out)
    except BaseException:  # an interrupted cut leaves nothing
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return shown, evaluated


def _spaced(total: int, count: int) -> list[int]:
    """`count` of the numbers below `total`, evenly spaced: neighbours in FreiHAND are from the same recording."""
    spaced: list[int] = (np.arange(count) * total // count).tolist()
    return spaced


def _cut_split(root: Path, out: Path, split: Split, chosen: list[int], poses: int) -> int:
    """Link images and masks of the chosen of `poses`, under their new numbers, and write their labels."""
    versions = len(list_images(root, split)) // poses
    for folder, copies in (("rgb", versions), ("mask", 1)):
        if not (root / split / folder).is_dir():
            continue
        (out / split / folder).mkdir(parents=True)
        for version in range(copies):
            for number, pose in enumerate(chosen):
                _link(
                    root / split / folder / f"{version * poses + pose:08d}.jpg",
                    out / split / folder / f"{version * len(chosen) + number:08d}.jpg",
                )
    for name in LABELS:
        source = root / f"{split}_{name}.json"
        if source.exists():
            rows: list[Any] = json.loads(source.read_bytes())
            (out / source.name).write_text(json.dumps([rows[pose] for pose in chosen]))
    return versions * len(chosen)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise DataError("no such image", str(source), "unpack the data set again") from None
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
