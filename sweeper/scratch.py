"""A driver's scratch folder, which holds Ray's files too: it goes with the run, or with the next one if it was killed.

Ray itself never removes the folder of a session: megabytes a run, for ever.
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
    for folder in of_killed_drivers():
        shutil.rmtree(folder, ignore_errors=True)
    before = os.environ.get("RAY_TMPDIR")
    made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=scratch_parent()))
    lock = os.open(made, os.O_RDONLY)  # of the folder itself; it dies with the process
    fcntl.flock(lock, fcntl.LOCK_EX)
    folder = made.rename(made.with_name(made.name.removeprefix(".")))  # locked before others can see it
    os.environ["RAY_TMPDIR"] = str(folder)
    try:
        yield folder
    finally:
        os.environ.pop("RAY_TMPDIR")
        if before is not None:
            os.environ["RAY_TMPDIR"] = before
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def of_killed_drivers() -> list[Path]:
    """Scratch folders of this user's drivers that are gone."""
    return [path for path in sorted(scratch_parent().glob(f"{PREFIX}*")) if _is_left(path)]


def scratch_parent() -> Path:
    """The folder that holds scratch folders."""
    folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    return folder if len(str(folder)) <= LONGEST_PARENT else Path("/tmp")


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
