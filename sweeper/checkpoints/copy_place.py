"""Where a copy of a study is kept: in a folder, which may be a slow mount that can neither rename over a file nor lock
nor sync, or in an S3-compatible store. All that is needed is to write, list and delete whole files."""

import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, TypeVar

from sweeper.checkpoints.object_store import CHECK_PATIENCE_S, ObjectStore
from sweeper.errors import UserError
from sweeper.spec.model import STORE_PATTERN

CHECK: Final = ".sweeper-check"
Result = TypeVar("Result")


class CopyPlace(Protocol):
    """Files by name, `NAME` or `FOLDER/NAME`; what cannot be done is a UserError, a missing file a
    FileNotFoundError."""

    shown: str

    def names(self) -> list[str]: ...
    def read(self, name: str) -> bytes: ...
    def write(self, name: str, content: bytes) -> None: ...
    def upload(self, source: Path, name: str) -> None: ...
    def download(self, name: str, target: Path) -> None: ...
    def remove(self, name: str) -> None: ...


def open_place(where: str, study: str) -> CopyPlace:
    """The place of a study's copy, `DIR/STUDY` or `s3://BUCKET/PREFIX/STUDY`, which can be written to.

    Raises:
        UserError: it cannot, or the URL is not valid.
    """
    if "://" in where:
        if not re.fullmatch(STORE_PATTERN, where):
            raise UserError(f"a copy cannot be kept in `{where}`", help="name a folder, or s3://BUCKET/PREFIX")
        store = ObjectStore(f"{where.rstrip('/')}/{study}", CHECK_PATIENCE_S)
        store.check()
        return _InStore(store)
    place = InFolder(Path(where).expanduser().absolute() / study)
    place.write(CHECK, b"")
    place.remove(CHECK)
    return place


class InFolder:
    """A copy in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.shown = folder, str(folder)

    def names(self) -> list[str]:
        """Of the files directly in it, not of those in folders."""
        try:
            return sorted(entry.name for entry in os.scandir(self._folder) if entry.is_file())
        except FileNotFoundError:
            return []

    def read(self, name: str) -> bytes:
        return self._tried(lambda: (self._folder / name).read_bytes())

    def write(self, name: str, content: bytes) -> None:
        def attempt() -> None:
            (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
            with open(self._folder / name, "wb") as file:
                file.write(content)
                file.flush()
                with suppress(OSError):  # not every mount can
                    os.fsync(file.fileno())

        self._tried(attempt)

    def upload(self, source: Path, name: str) -> None:
        def attempt() -> None:
            (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, self._folder / name)

        self._tried(attempt)

    def download(self, name: str, target: Path) -> None:
        self._tried(lambda: shutil.copyfile(self._folder / name, target))

    def remove(self, name: str) -> None:
        self._tried(lambda: (self._folder / name).unlink(missing_ok=True))
        with suppress(OSError):  # others are in it
            (self._folder / name).parent.rmdir()

    def _tried(self, attempt: Callable[[], Result]) -> Result:
        try:
            return attempt()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UserError(f"the copy cannot be kept: {error.strerror or error}", self.shown) from error


class _InStore:
    """A copy in an S3-compatible store, which may also contain its checkpoints."""

    def __init__(self, store: ObjectStore) -> None:
        self._store, self.shown = store, store.url
        self.names, self.read, self.write = store.names, store.read, store.write
        self.upload, self.download, self.remove = store.upload, store.download, store.remove
