"""Files and folders: what is inside what, atomic writes, checksums, folders that are deleted with their process."""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")
SCRATCH: Final = re.compile(r"\..+\.\d+\.tmp")
"""`.NAME.PID.tmp`, which `write_atomic` writes before it moves it to NAME."""
STALE_TRIES: Final = 5
STALE_WAIT_S: Final = 0.2


def inside(folder: Path, path: Path) -> bool:
    """Whether a path, links followed, lies beneath a folder."""
    return path.resolve().is_relative_to(folder.resolve())


def write_atomic(path: Path, content: str, *, sync: bool = False) -> None:
    """Write a file whole or not at all: a kill leaves the old one, and a reader sees one of the two.

    Args:
        path: in a folder that exists.
        content: written as UTF-8.
        sync: force it onto the disk, for what must survive a power cut.

    Raises:
        OSError: it could not be written.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(scratch, "w", encoding="utf-8") as file:
            with suppress(OSError):  # a file system may not have locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until it is complete, nobody takes it for a leftover
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
            os.replace(scratch, path)
    except BaseException:
        with suppress(OSError):
            scratch.unlink()
        raise


def remove_half_written(folder: Path) -> None:
    """Delete what `write_atomic` in a killed process, here or on another machine, has left in a folder."""
    for scratch in folder.glob(".*.tmp"):
        if SCRATCH.fullmatch(scratch.name) is None:
            continue
        with suppress(OSError):  # it is being written, or has just been put in its place
            file = os.open(scratch, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if stat.S_ISREG(os.fstat(file).st_mode):
                    scratch.unlink()
            finally:
                os.close(file)


def reread(read: Callable[[], T]) -> T:
    """What `read`, which opens a file and reads it, returns; repeated if another machine has replaced the file
    meanwhile: on NFS the open file is then a stale handle (ESTALE), and a new one is not.

    Raises:
        OSError: it cannot be read.
    """
    for _ in range(STALE_TRIES - 1):
        try:
            return read()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            time.sleep(STALE_WAIT_S)
    return read()


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hex.

    Raises:
        OSError: it cannot be read.
    """

    def read() -> str:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return reread(read)


@contextmanager
def own_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent`; those with this prefix left by killed processes are deleted first."""
    for left in abandoned_folders(parent, prefix):
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


def abandoned_folders(parent: Path, prefix: str) -> list[Path]:
    """Folders that killed processes left behind."""
    return [path for path in sorted(parent.glob(f"{prefix}*")) if _is_abandoned(path)]


def _is_abandoned(folder: Path) -> bool:
    try:
        if folder.lstat().st_uid != os.getuid():
            return False
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # it has just been deleted
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
