"""What a trainer leaves in its trial's folder besides its checkpoints: tables, pictures, notes."""

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from sweeper.checkpoints.manifest import MANIFEST
from sweeper.redaction import plain

MOST_FILES: Final = 1000
"""Most files of one trial that go to MLflow: a cache of a million files is useful where it is."""
MOST_LOOKED_AT: Final = 20_000
SMALL_BYTES: Final = 1 << 20
"""Files up to this size go to MLflow whatever the spec's `retention`."""

_Stamp = tuple[str, int, int]  # name, bytes, time: the same for a copy, which keeps them


def leftovers(folder: Path, ours: Collection[str], retention: str) -> tuple[list[Path], int]:
    """The files of a trial that go to MLflow, by path, and how many others there are.

    Neither includes checkpoints (folders with a manifest), what a checkpoint was copied from, hidden files, links, and
    what is not a file. Others are those that are large if the spec's `retention` is not `all`, those above the maximum
    number, and those whose name is not text.

    Args:
        folder: of the trial.
        ours: names of files in it that the trainer has not made.
        retention: of the spec.
    """
    found, copied = _files(folder)
    left = [
        path
        for path, stamp in sorted(found.items())
        if stamp not in copied and not (path.parent == folder and path.name in ours)
    ]
    small = (path for path in left if retention == "all" or found[path][1] <= SMALL_BYTES)
    sent = [path for path in small if plain(str(path), len(str(path))) == str(path)][:MOST_FILES]
    return sent, len(left) - len(sent)


def _files(folder: Path) -> tuple[dict[Path, _Stamp], set[_Stamp]]:
    """All files, and what lies in checkpoints."""
    found: dict[Path, _Stamp] = {}
    copied: set[_Stamp] = set()
    for place, folders, names in os.walk(folder):
        is_checkpoint = MANIFEST in names and Path(place) != folder
        folders[:] = [] if is_checkpoint else [name for name in folders if not name.startswith(".")]
        for path in (Path(place) / name for name in names if not name.startswith(".")):
            with suppress(OSError):  # deleted meanwhile
                if path.is_symlink() or not path.is_file():
                    continue
                at = path.stat()
                stamp = (path.name, at.st_size, at.st_mtime_ns)
                if is_checkpoint:
                    copied.add(stamp)
                else:
                    found[path] = stamp
        if len(found) > MOST_LOOKED_AT:
            break
    return found, copied
