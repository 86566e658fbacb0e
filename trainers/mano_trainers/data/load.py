"""The one call the training loop makes for data."""

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from mano_trainers.arrays import Array, Flags, Integers, Pixels
from mano_trainers.config.data import DataConfig, DataSetConfig
from mano_trainers.data.background import Masks
from mano_trainers.data.cache import Progress, cached_images, file_lock
from mano_trainers.data.curriculum import check_curriculum
from mano_trainers.data.readers.crop import (
    centred_box,
    cut_out,
    inside,
    median_share,
    picture_size,
    project,
    square_boxes,
    square_side,
)
from mano_trainers.data.readers.dexycb_splits import Part, published_split
from mano_trainers.data.readers.labels import Labels, Picture, concatenate
from mano_trainers.data.readers.read import ReadSet, read_set, right_hand
from mano_trainers.data.rendering.freihand import make_freihand
from mano_trainers.data.split import split_by_group
from mano_trainers.errors import ConfigError
from mano_trainers.hand.model import HandModel

EMBEDDED_VERSION: Final = 3
"""Incremented when the renderer's pictures change, so that an old set is not mistaken for the new one."""
EXAMPLES: Final = 16


@dataclass(frozen=True, eq=False)
class LoadedData:
    """A data set ready for training.

    Attributes:
        images: (M, S, S, 3) uint8 RGB, memory-mapped: read rows, never the whole.
        labels: of all poses and images.
        train_poses: pose indices to train on.
        val_poses: pose indices held out.
        fingerprint: SHA-256 over images and labels.
        hand: the hand model the labels belong to.
        sides_px: (N,) side of the square picture that each pose's camera matrix belongs to; `images` are resized.
        corners_px: (N, 2) where that square's left and top lie in the file, which may show more.
        crop_shares: by root of a set in FreiHAND's layout, what is cut out of its validated pictures: a square in the
            middle whose side is that share of the picture's. Empty without `data.crop`.
        examples: some rows of `images` and the pictures they were decoded from, to be compared with them.
        masks: of the hands; None where none were asked for.
    """

    images: Pixels
    labels: Labels
    train_poses: Integers
    val_poses: Integers
    fingerprint: str
    hand: HandModel
    sides_px: Array
    corners_px: Array
    crop_shares: Mapping[str, float]
    examples: tuple[tuple[int, Picture], ...] = ()
    masks: Masks | None = None


def load_data(config: DataConfig, with_masks: bool = False) -> LoadedData:
    """Open the data sets of a config; render the embedded one and decode images on first use.

    Each set is split separately, so training and validation contain the same shares of every set.

    The environment variable `TRAINERS_CACHE_DIR` says where caches are, by default in `~/.cache/mano-trainers`: that is
    a matter of the machine, and changes no result. `with_masks`: load the masks of hands too
    (`augmentation.background`).

    Raises:
        DataError: a data set is missing or damaged.
        ConfigError: a stage of the curriculum has nothing to show, or no set has masks.
    """
    cache_dir = cache_folder()
    read: list[ReadSet] = []
    train: list[Integers] = []
    val: list[Integers] = []
    masked: list[ReadSet | None] = []
    shares: dict[str, float] = {}
    for item in config.all_sets:
        first = sum(len(labels.theta) for labels, *_ in read)
        both, poses = _read_parts(config, item, cache_dir)
        if config.crop is not None and item.format == "freihand":
            both, shares[item.root] = _cut_freihand(both, poses[0], config.crop)
        train.append(first + poses[0])
        val.append(first + poses[1])
        masked += [both[0] if with_masks and item.may_have_masks else None, *(None for _ in both[1:])]
        read += both
    parts, pictures = [part[0] for part in read], [picture for part in read for picture in part[1]]
    labels, files = concatenate(parts), [file for part in read for file in part[2]]
    squares = [_squares_px(*part[:2]) for part in read]
    sides_px, corners_px = (np.concatenate(each) for each in zip(*squares, strict=True))
    train_poses, val_poses = np.concatenate(train), np.concatenate(val)
    check_curriculum(config.curriculum, labels, train_poses)
    cached = cached_images(pictures, files, config.image_size, cache_dir, _progress("decoding images"))
    masks, of_masks = _load_masks(config, parts, masked, cache_dir) if with_masks else (None, "")
    return LoadedData(
        cached.pixels,
        labels,
        train_poses,
        val_poses,
        _fingerprint(cached.fingerprint, of_masks),
        right_hand(config.hand),
        sides_px,
        corners_px,
        shares,
        _examples(pictures),
        masks,
    )


def _examples(pictures: Sequence[Picture]) -> tuple[tuple[int, Picture], ...]:
    rows = np.linspace(0, len(pictures) - 1, EXAMPLES).astype(int).tolist()
    return tuple((row, pictures[row]) for row in rows)


def _fingerprint(of_images: str, of_masks: str) -> str:
    """If there are no masks that of the images alone, as it was before masks existed."""
    return hashlib.sha256(f"{of_images} {of_masks}".encode()).hexdigest() if of_masks else of_images


def _load_masks(
    config: DataConfig, parts: Sequence[Labels], masked: Sequence[ReadSet | None], cache_dir: Path
) -> tuple[Masks, str]:
    """The masks of the parts that have some, and their fingerprint. FreiHAND has one for each pose, made from its image
    in front of the green screen, which is the first version."""
    files: list[Picture] = []
    rows: list[Integers] = []
    exact: list[Flags] = []
    for labels, part in zip(parts, masked, strict=True):
        images, poses = len(labels.pose_index), len(labels.theta)
        rows.append(len(files) + np.arange(images) % poses if part else np.full(images, -1))
        exact.append((np.arange(images) < poses) & (part is not None))
        if part is not None:
            folder = part[1][0].path.parents[1] / "mask"
            files += [replace(each, path=folder / f"{pose:08d}.jpg") for pose, each in enumerate(part[1][:poses])]
    if not files:
        folders = ", ".join(str(Path(item.root).expanduser() / "training" / "mask") for item in config.all_sets)
        help = "unpack FreiHAND's masks there, or set it to 0"
        raise ConfigError(f"needs masks of hands, and there are none in {folders}", "augmentation.background", help)
    cached = cached_images(files, [], config.image_size, cache_dir, _progress("decoding masks"), "masks")
    return Masks(cached.pixels, np.concatenate(rows), np.concatenate(exact)), cached.fingerprint


def _read_parts(
    config: DataConfig, item: DataSetConfig, cache_dir: Path
) -> tuple[list[ReadSet], tuple[Integers, Integers]]:
    """A set, as one part or as its two splits, and which of its poses to train and validate on."""
    root = embedded_root(config, cache_dir) if item.root == "embedded" else Path(item.root).expanduser()
    published = item.format == "dexycb" and config.dexycb_split is not None
    if config.validate_on == "evaluation" and not published:
        both = [read_set(root, item.format, config.hand, split, item.name) for split in ("training", "evaluation")]
        count = len(both[0][0].theta)
        return both, (np.arange(count), np.arange(count, count + len(both[1][0].theta)))
    whole = read_set(root, item.format, config.hand, name=item.name, keep=cache_dir, crop=config.crop)
    if config.dexycb_split is None or not published:
        return [whole], split_by_group(whole[0].group, config.val_fraction)
    part: Part = "val" if config.validate_on == "held_out" else "test"
    return [whole], published_split(root, whole[1], config.dexycb_split, part)


def _cut_freihand(both: Sequence[ReadSet], trained: Integers, crop: float) -> tuple[list[ReadSet], float]:
    """Parts of FreiHAND's layout with trained poses cut around their own joints, all others to the square in the middle
    that `export` cuts too; and the share of that square."""
    labels, pictures, _ = both[0]
    size_px = square_side(pictures[0].path)
    own = square_boxes(project(labels.intrinsics[trained], labels.joints_m[trained]), crop)
    share = median_share(own, size_px)
    cut = []
    for number, (labels, pictures, files) in enumerate(both):
        whole_px = square_side(pictures[0].path)
        boxes = np.tile(centred_box(whole_px, share), (len(labels.theta), 1))
        if number == 0:
            boxes[trained] = inside(own, whole_px)
        cut.append((*cut_out(labels, pictures, boxes, whole_px), files))
    return cut, share


def _squares_px(labels: Labels, pictures: Sequence[Picture]) -> tuple[Array, Array]:
    """Side (N,), and left and top (N, 2), of the part of the file that each pose's camera matrix belongs to."""
    sides, corners = np.empty(len(labels.theta)), np.zeros((len(labels.theta), 2))
    boxes = [picture.box for picture in pictures if picture.box is not None]
    if len(boxes) < len(pictures):  # in a layout without boxes all pictures have one size
        sides[:] = picture_size(pictures[0].path)[0]
    else:
        sides[labels.pose_index] = [right - left for left, _, right, _ in boxes]
        corners[labels.pose_index] = [box[:2] for box in boxes]
    return sides, corners


def cache_folder() -> Path:
    """Where decoded images and the embedded sets are on this machine."""
    return Path(os.environ.get("TRAINERS_CACHE_DIR", "~/.cache/mano-trainers")).expanduser()


def embedded_root(config: DataConfig, cache_dir: Path) -> Path:
    """Folder of the embedded set, rendered on first use."""
    name = f"embedded-v{EMBEDDED_VERSION}-{config.embedded_count}-{config.image_size}-{config.embedded_seed}"
    root = cache_dir / name
    with file_lock(cache_dir / f"{name}.lock"):
        if not root.is_dir():
            make_freihand(
                root, config.embedded_count, config.image_size, config.embedded_seed, _progress("rendering the hands")
            )
    return root


def _progress(what: str) -> Progress:
    """Progress on stderr: a line that is rewritten in a terminal, elsewhere a line for every quarter."""
    last = [-1]

    def show(done: int, total: int) -> None:
        steps = 100 if sys.stderr.isatty() else 4
        step = steps * done // total
        if step == last[0]:
            return
        last[0] = step
        end = "\r" if sys.stderr.isatty() and done < total else "\n"
        print(f"{what}: {done} of {total}", end=end, file=sys.stderr, flush=True)

    return show
