"""Scratch folders that go with their process, or with the next one if it was killed.

A driver's holds Ray's files too: Ray itself never removes the folder of a session: megabytes a run, for ever.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

LONGEST_PARENT: Final = 30
"""Letters: longer, and the paths of Ray's sockets below it exceed the 107 that Linux takes."""
PREFIX: Final = "sweeper-run-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for this run and for the Ray that it starts; those that killed drivers left are removed first."""
    before = os.environ.get("RAY_TMPDIR")
    with own_folder(scratch_parent(), PREFIX) as folder:
        os.environ["RAY_TMPDIR"] = str(folder)
        try:
            yield folder
        finally:
            os.environ.pop("RAY_TMPDIR")
            if before is not None:
                os.environ["RAY_TMPDIR"] = before


@contextmanager
def own_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent`; those with this prefix that killed processes left are removed first."""
    for left in _left(parent, prefix):
        shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=parent))
    lock = os.open(made, os.O_RDONLY)  # of the folder itself; it dies with the process
    fcntl.flock(lock, fcntl.LOCK_EX)
    folder = made.rename(made.with_name(made.name.removeprefix(".")))  # locked before others can see it
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def of_killed_drivers() -> list[Path]:
    """Scratch folders of this user's drivers that are gone."""
    return _left(scratch_parent(), PREFIX)


def scratch_parent() -> Path:
    """The folder that holds scratch folders."""
    folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    return folder if len(str(folder)) <= LONGEST_PARENT else Path("/tmp")


def _left(parent: Path, prefix: str) -> list[Path]:
    return [path for path in sorted(parent.glob(f"{prefix}*")) if _is_left(path)]


def _is_left(folder: Path) -> bool:
    try:
        if folder.lstat().st_uid != os.getuid():
            return False
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # it has just been removed
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
