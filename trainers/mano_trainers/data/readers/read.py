"""One data set of any layout, as labels, pictures, and the files that the labels come from."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from mano_trainers.config.data import Format
from mano_trainers.data.cache import file_lock, files_key
from mano_trainers.data.readers import dexycb, freihand, ho3d
from mano_trainers.data.readers.crop import MARGIN
from mano_trainers.data.readers.freihand import Split
from mano_trainers.data.readers.labels import Labels, Picture
from mano_trainers.errors import DataError
from mano_trainers.hand.load import EMBEDDED, load_hand
from mano_trainers.hand.mano_file import WHERE_FROM, load_mano
from mano_trainers.hand.mirror import mirror_hand
from mano_trainers.hand.model import HandModel

Read = tuple[Labels, list[Picture]]
ReadSet = tuple[Labels, list[Picture], list[Path]]
"""Labels, pictures, and the files that the labels come from."""
READERS_VERSION: Final = 3
"""Incremented when a reader's result changes, so that labels kept by an older one are not used."""


def right_hand(name_or_path: str) -> HandModel:
    """The hand of a config, which must be a right one: left hands are mirrored.

    Raises:
        DataError: the file is missing, is not a MANO hand, or is a left one.
    """
    hand = load_hand(name_or_path)
    if hand.side != "right":
        raise DataError("is a left hand, but a right hand is needed", name_or_path, "give MANO_RIGHT.pkl")
    return hand


def read_set(
    root: Path,
    format: Format,
    hand_name: str,
    split: Split = "training",
    name: str = "",
    keep: Path | None = None,
    crop: float | None = None,
) -> ReadSet:
    """Read a set; HO-3D and DexYCB, which have one file per frame, are read once and kept.

    Args:
        root: its folder.
        format: its layout.
        hand_name: `data.hand`.
        split: FreiHAND only; the others have only a training split.
        name: of the set, for the labels.
        keep: folder for labels that were read; None: read all files again.
        crop: `data.crop`, for HO-3D and DexYCB; FreiHAND's pictures are whole here, and cut when the split is known.

    Raises:
        DataError: something is missing or damaged.
    """
    if not root.is_dir():
        raise DataError("no such folder", str(root), "data.root is the folder of a data set")
    hand, factor = right_hand(hand_name), MARGIN if crop is None else crop
    match format:
        case "freihand":
            return *freihand.read_freihand(root, split, name), freihand.label_files(root, split)
        case "ho3d":
            files, hands = ho3d.label_files(root), [hand]

            def read() -> Read:
                return ho3d.read_ho3d(root, hand, name, factor)
        case "dexycb":
            left = _left_hand(root, hand_name, hand)
            files, hands = dexycb.label_files(root), [hand, left]

            def read() -> Read:
                return dexycb.read_dexycb(root, hand, left, name, factor)

    if keep is None:
        return *read(), files
    key = files_key([], files)
    of_hands = "-".join(each.fingerprint[:8] for each in hands)
    path = keep / f"labels-{key}-{name}-{of_hands}-{factor!r}-v{READERS_VERSION}.npz"
    return *_kept(path, read), files


def _left_hand(root: Path, hand_name: str, hand: HandModel) -> HandModel:
    if hand_name == EMBEDDED or not dexycb.has_left_hands(root):
        return mirror_hand(hand)
    path = Path(hand_name).expanduser().with_name("MANO_LEFT.pkl")
    if not path.exists():
        raise DataError(
            "no such file, and the data set shows left hands", str(path), f"put it there: {WHERE_FROM['left']}"
        )
    return load_mano(path, "left")


def _kept(path: Path, read: Callable[[], Read]) -> Read:
    """What `read` returns, from the file of an earlier call if there is one and its pictures have not changed."""
    with file_lock(path.with_suffix(".lock")):
        if not path.exists() or not _pictures_are_those_of(path):
            labels, pictures = read()
            partial = path.with_suffix(".partial.npz")
            np.savez(
                partial,
                paths=np.array([str(picture.path) for picture in pictures]),
                boxes=np.array([picture.box for picture in pictures]),
                mirrored=np.array([picture.mirrored for picture in pictures]),
                bytes_each=np.array([os.stat(picture.path).st_size for picture in pictures]),
                **vars(labels),
            )
            partial.rename(path)
    with np.load(path, allow_pickle=False) as stored:
        kept = {key: stored[key] for key in stored.files if key != "bytes_each"}
    cuts = zip(kept.pop("paths"), kept.pop("boxes").tolist(), kept.pop("mirrored").tolist(), strict=True)
    pictures = [Picture(Path(str(path)), (*box,), mirrored) for path, box, mirrored in cuts]
    return Labels(**kept), pictures


def _pictures_are_those_of(path: Path) -> bool:
    """Whether every picture is there with its size in bytes, which the labels' key does not cover."""
    with np.load(path, allow_pickle=False) as stored:
        paths, bytes_each = stored["paths"].tolist(), stored["bytes_each"].tolist()
    try:
        return bool([os.stat(each).st_size for each in paths] == bytes_each)
    except OSError:
        return False  # the reader names the missing one, or finds it under another suffix
