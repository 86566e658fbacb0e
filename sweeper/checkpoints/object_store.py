"""Checkpoints in an S3-compatible store, for machines that share no file system.

A checkpoint KEY (`trials/0007/epoch_003`) is the objects `KEY/FILE` and, written last, `KEY.files.json` with size and
sha256 of each: an interrupted upload is not a checkpoint, whatever trainer wrote it. Endpoint, region and credentials
come from the usual AWS_* variables of each machine, and are neither stored nor sent.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

from sweeper.errors import UserError
from sweeper.files import sha256_of
from sweeper.redaction import redact

PATIENCE_S: Final = 300.0
"""How long a worker or a starting driver waits for an unavailable store."""
CHECK_PATIENCE_S: Final = 5.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 15.0
FULL_HERE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of this machine's disk, which say nothing about the store."""
CHUNK_BYTES: Final = 8 * 2**20
CONNECT_S, REQUEST_S = 5.0, 60.0
LISTING: Final = ".files.json"
NOTHING_LOST: Final = "when the store answers again, run the study again: nothing reported is lost"
HELP: Final = {
    "NO_SUCH_BUCKET": "create the bucket, or name another one (`checkpoints:` of the spec, SWEEPER_CHECKPOINTS)",
    "NETWORK_CONNECTION": "is AWS_ENDPOINT_URL the store's address, as this machine reaches it?",
}
REFUSED: Final = (
    "NO_SUCH_BUCKET",
    "ACCESS_DENIED",
    "INVALID",
    "SIGNATURE",
    "UNRECOGNIZED",
    "MISSING",
    "EXPIRED",
    "NOT_",
)
"""How error codes start that a retry would get again."""
CREDENTIALS_HELP: Final = "may AWS_ACCESS_KEY_ID, with its AWS_SECRET_ACCESS_KEY, read, write and delete there?"
Result = TypeVar("Result")


class StoreUnavailable(UserError):
    """The store does not answer, or refuses."""


class CheckpointMissing(Exception):
    """The store does not contain this checkpoint, or not as it was written; the text says which."""


class ObjectStore:
    """The checkpoints of one study in a store.

    Args:
        url: `s3://BUCKET/FOLDER`, the study's own.
        patience_s: how long to wait for an unavailable store.
    """

    def __init__(self, url: str, patience_s: float = 0.0) -> None:
        from pyarrow import fs

        self.url = url
        self._root = url.removeprefix("s3://").rstrip("/")
        self._patience_s = patience_s
        self._fs: Any = fs.S3FileSystem(
            endpoint_override=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None,
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None,
            connect_timeout=CONNECT_S,
            request_timeout=REQUEST_S,
            allow_delayed_open=True,  # a small file is one request
        )

    def check(self) -> None:
        """Write, read and remove a small object.

        Raises:
            StoreUnavailable: that was not possible; it says why.
        """
        path, content = f"{self._root}/.check-{uuid.uuid4().hex}", b"sweeper"

        def attempt() -> None:
            self._write(path, content)
            if self._read(path) != content:
                raise OSError("what was read is not what was written")
            self._fs.delete_file(path)

        self._persist(attempt)

    def put(self, folder: Path, key: str) -> None:
        """Store a checkpoint's folder; what was under this key before stops being a checkpoint with the first byte.

        Raises:
            StoreUnavailable: the store does not answer, or refuses.
        """
        files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
        listing = {name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for name, path in files.items()}
        with suppress(CheckpointMissing, FileNotFoundError):
            if self.files(key) == listing:
                return
            self._persist(lambda: self._fs.delete_file(f"{self._root}/{key}{LISTING}"))
        for name, path in files.items():
            self._persist(partial(self._upload, path, f"{self._root}/{key}/{name}"))
        text = json.dumps({"files": listing}, indent=1)
        self._persist(lambda: self._write(f"{self._root}/{key}{LISTING}", text.encode()))

    def files(self, key: str) -> dict[str, dict[str, Any]]:
        """Name of each file of a checkpoint -> its `bytes` and `sha256`.

        Raises:
            CheckpointMissing: the store has no such checkpoint.
            StoreUnavailable: as `put`.
        """
        try:
            listing = json.loads(self._persist(lambda: self._read(f"{self._root}/{key}{LISTING}")))["files"]
            for name, entry in listing.items():
                place = PurePosixPath(name)
                if place.is_absolute() or ".." in place.parts or not isinstance(entry["sha256"], str):
                    raise ValueError(name)
            return dict(listing)
        except FileNotFoundError:
            raise CheckpointMissing(f"{key} is not in the store") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointMissing(f"the list of files of {key} in the store cannot be read") from None

    def fetch(self, key: str, folder: Path, wanted: Callable[[str], bool] | None = None) -> None:
        """Fetch a checkpoint into `folder`, whole or not at all. `wanted`: only these of its files, added to the
        folder.

        Raises:
            CheckpointMissing: the store has no such checkpoint, or a file of it is not what was written.
            StoreUnavailable: as `put`.
        """
        listing = self.files(key)
        half = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
        half.mkdir(parents=True)
        try:
            for name, entry in listing.items():
                if wanted is None or wanted(name):
                    self._bring(f"{key}/{name}", entry, half / name)
            if wanted is None:
                shutil.rmtree(folder, ignore_errors=True)
                half.rename(folder)
                return
            for path in [path for path in half.rglob("*") if path.is_file()]:
                target = folder / path.relative_to(half)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
        finally:
            shutil.rmtree(half, ignore_errors=True)

    def sizes(self) -> dict[str, dict[str, int]]:
        """Key of each complete checkpoint in the store -> bytes of each of its files.

        Raises:
            StoreUnavailable: as `put`.
        """
        from pyarrow import fs

        everything = fs.FileSelector(self._root, recursive=True, allow_not_found=True)
        found = {
            info.path.removeprefix(f"{self._root}/"): int(info.size)
            for info in self._persist(lambda: self._fs.get_file_info(everything))
            if info.type is fs.FileType.File
        }
        keys = [path.removesuffix(LISTING) for path in found if path.endswith(LISTING)]
        return {
            key: {path.removeprefix(f"{key}/"): size for path, size in found.items() if path.startswith(f"{key}/")}
            for key in keys
        }

    def delete(self, key: str) -> None:
        """Delete a checkpoint, its list of files first. A missing one is not an error.

        Raises:
            StoreUnavailable: as `put`.
        """
        for remove, path in ((self._fs.delete_file, f"{key}{LISTING}"), (self._fs.delete_dir, key)):
            with suppress(FileNotFoundError):
                self._persist(partial(remove, f"{self._root}/{path}"))

    # -- any files, by name

    def names(self) -> list[str]:
        """Of the files directly in the folder, not of those in folders."""
        from pyarrow import fs

        here = fs.FileSelector(self._root, allow_not_found=True)
        found = self._persist(lambda: self._fs.get_file_info(here))
        return sorted(info.base_name for info in found if info.type is fs.FileType.File)

    def read(self, name: str) -> bytes:
        """The content of a file; a FileNotFoundError if there is none."""
        return self._persist(lambda: self._read(f"{self._root}/{name}"))

    def write(self, name: str, content: bytes) -> None:
        """Create a file, or replace it."""
        self._persist(lambda: self._write(f"{self._root}/{name}", content))

    def upload(self, source: Path, name: str) -> None:
        """Copy a file to the store."""
        self._persist(lambda: self._upload(source, f"{self._root}/{name}"))

    def download(self, name: str, target: Path) -> None:
        """Copy a file from the store; a FileNotFoundError if there is none."""
        self._persist(lambda: self._download(f"{self._root}/{name}", target))

    def remove(self, name: str) -> None:
        """Delete a file; a missing one is not an error."""
        with suppress(FileNotFoundError):
            self._persist(lambda: self._fs.delete_file(f"{self._root}/{name}"))

    # -- internal

    def _bring(self, path: str, entry: Mapping[str, Any], target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = self._persist(lambda: self._download(f"{self._root}/{path}", target))
        except FileNotFoundError:
            raise CheckpointMissing(f"{path} is gone from the store") from None
        if found != entry["sha256"]:
            raise CheckpointMissing(f"{path} in the store is not what was written")

    def _upload(self, source: Path, path: str) -> None:
        with source.open("rb") as file, self._fs.open_output_stream(path) as stream:
            while chunk := file.read(CHUNK_BYTES):
                stream.write(chunk)

    def _download(self, path: str, target: Path) -> str:
        digest = hashlib.sha256()
        with self._fs.open_input_stream(path) as stream, target.open("wb") as file:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def _write(self, path: str, content: bytes) -> None:
        with self._fs.open_output_stream(path) as stream:
            stream.write(content)

    def _read(self, path: str) -> bytes:
        with self._fs.open_input_stream(path) as stream:
            return bytes(stream.read())

    def _persist(self, attempt: Callable[[], Result]) -> Result:
        """What `attempt` returns when the store answers."""
        since_s, pause_s = time.monotonic(), FIRST_PAUSE_S
        while True:
            try:
                return attempt()
            except FileNotFoundError:
                raise
            except OSError as error:
                if error.errno in FULL_HERE:
                    raise
                code = _code(error)
                waited_s = time.monotonic() - since_s
                if code.startswith(REFUSED) or waited_s + pause_s > self._patience_s:
                    raise self._lost(error, code) from None
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _lost(self, error: OSError, code: str) -> StoreUnavailable:
        refused = code.startswith(REFUSED)
        said = redact(re.sub(r"\s*\(Request ID.*|\s*Details:.*", "", str(error).strip().splitlines()[0]))
        what = f"the checkpoint store {self.url} {'refuses' if refused else 'does not answer'}: {said}"
        return StoreUnavailable(what, help=HELP.get(code, CREDENTIALS_HELP if refused else NOTHING_LOST))


def _code(error: OSError) -> str:
    """What the store answered, such as `NO_SUCH_BUCKET`; empty if not known."""
    found = re.search(r"AWS Error (\w+)", str(error))
    return found.group(1) if found else "ACCESS_DENIED" if isinstance(error, PermissionError) else ""
