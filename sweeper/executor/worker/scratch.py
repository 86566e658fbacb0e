"""Scratch folders that are deleted with their process, or by the next one if it was killed.

A driver's contains Ray's files too: Ray itself never deletes the folder of a session, megabytes per run.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from sweeper.files import abandoned_folders, own_folder

LONGEST_PARENT: Final = 30
"""Characters: if longer, the paths of Ray's sockets below it exceed the 107 that Linux accepts."""
PREFIX: Final = "sweeper-run-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for this run and for the Ray that it starts; those left by killed drivers are deleted first."""
    before = os.environ.get("RAY_TMPDIR")
    with own_folder(scratch_parent(), PREFIX) as folder:
        os.environ["RAY_TMPDIR"] = str(folder)
        try:
            yield folder
        finally:
            os.environ.pop("RAY_TMPDIR")
            if before is not None:
                os.environ["RAY_TMPDIR"] = before


def of_killed_drivers() -> list[Path]:
    """Scratch folders of this user's drivers that no longer exist."""
    return abandoned_folders(scratch_parent(), PREFIX)


def processes_of_killed_drivers() -> set[int]:
    """Processes of Ray that write into scratch folders of drivers that no longer exist: its agents outlive a kill -9 of
    the driver by half a minute. They overwrite their environment with their title, so it does not show whose they
    are."""
    start = str(scratch_parent().resolve() / PREFIX)
    abandoned = {str(folder.resolve()) for folder in of_killed_drivers()}
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if not process.cmdline()[:1] or not process.cmdline()[0].startswith("ray::"):
                continue  # above all a driver, which keeps files open when its folder is deleted
            for place in _open_files(process.pid):
                folder = str(Path(*Path(place).parts[: len(Path(start).parts)]))
                if place.startswith(start) and (folder in abandoned or not os.path.isdir(folder)):
                    found.add(process.pid)
    return found


def _open_files(pid: int) -> Iterator[str]:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # it was closed just now
            yield os.readlink(descriptor)


def scratch_parent() -> Path:
    """The folder for scratch folders."""
    folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    return folder if len(str(folder)) <= LONGEST_PARENT else Path("/tmp")
