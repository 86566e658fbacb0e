"""The one call the training loop makes for data."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainers.config import DataConfig
from trainers.data.cache import Pixels, Progress, cached_images, file_lock
from trainers.data.freihand import label_files, read_freihand
from trainers.data.labels import Labels
from trainers.data.make import make_freihand
from trainers.data.split import Integers, split_by_pose
from trainers.hand.model import HandModel, load_embedded_hand

EMBEDDED_VERSION: Final = 3
"""Goes up when the renderer's pictures change, so that an old set is not taken for the new one."""


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
    """

    images: Pixels
    labels: Labels
    train_poses: Integers
    val_poses: Integers
    fingerprint: str
    hand: HandModel


def load_data(config: DataConfig) -> LoadedData:
    """Open the data set of a config; render the embedded one and decode images on first use.

    Where caches lie is the environment variable `TRAINERS_CACHE_DIR`, by default `~/.cache/mano-trainers`: it is a
    matter of the machine, and changes no result.

    Raises:
        DataError: the data set is missing or damaged.
    """
    cache_dir = Path(os.environ.get("TRAINERS_CACHE_DIR", "~/.cache/mano-trainers")).expanduser()
    root = _embedded_root(config, cache_dir) if config.root == "embedded" else Path(config.root)
    labels, paths = read_freihand(root)
    cached = cached_images(paths, label_files(root), config.image_size, cache_dir, _progress("decoding images"))
    train_poses, val_poses = split_by_pose(len(labels.theta), config.val_fraction)
    return LoadedData(cached.pixels, labels, train_poses, val_poses, cached.fingerprint, load_embedded_hand())


def _embedded_root(config: DataConfig, cache_dir: Path) -> Path:
    name = f"embedded-v{EMBEDDED_VERSION}-{config.embedded_count}-{config.image_size}-{config.embedded_seed}"
    root = cache_dir / name
    with file_lock(cache_dir / f"{name}.lock"):
        if not root.is_dir():
            make_freihand(
                root, config.embedded_count, config.image_size, config.embedded_seed, _progress("rendering the hands")
            )
    return root


def _progress(what: str) -> Progress:
    """A bar that rewrites its line in a terminal, and a line every quarter elsewhere. On stderr."""
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
