"""A durable queue in one file: operations are appended as JSON lines, and an offset says how far they were delivered.

The writer (the driver's thread) and the reader (the tracking thread) share one :class:`Outbox`; a study's lock keeps
other processes out. What a crash can leave behind is repaired on opening: a half-written last line is cut off, an
offset that was never saved means that some operations are delivered twice, which the receiver must tolerate.
"""

import gzip
import json
import os
import shutil
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sweeper.files import write_atomic
from sweeper.redaction import redact

Record = dict[str, Any]

READ_BYTES = 4 << 20
PACK_BYTES = 1 << 18
"""A smaller outbox is not worth compressing."""
OUTBOX: Final = "outbox.jsonl"
PACKED: Final = "outbox.delivered.gz"
"""What was delivered long ago: needed when a study is sent to another MLflow."""
ACK: Final = "outbox.ack"
REJECTS: Final = "outbox.rejected.jsonl"
"""What MLflow will never accept from a study, each line with the reason."""
STORE: Final = "outbox.store"
"""Where it was last delivered to."""


class Outbox:
    """The queue of one study: ``outbox.jsonl`` and ``outbox.ack`` in `folder`.

    Args:
        folder: an existing folder; the files are made on first use.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / OUTBOX
        self._ack_path = folder / ACK
        self._packed = folder / PACKED
        self._packing, self._unpacking = self._packed.with_suffix(".gz.tmp"), self._path.with_suffix(".jsonl.tmp")
        for left in (self._packing, self._unpacking):
            with suppress(OSError):
                left.unlink()  # left by a process that was killed
        self._lock = threading.RLock()
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._size = _cut_half_line(self._fd)
        self._acked = self._load_ack()
        self._left = sum(1 for _ in self._lines(self._acked))

    @property
    def left(self) -> int:
        """Records appended and not yet acknowledged."""
        with self._lock:
            return self._left

    @property
    def has_delivered(self) -> bool:
        """Whether anything was acknowledged before, or has been since."""
        return self._acked > 0 or self._packed.exists()

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one operation at the end; it survives the end of this process once this returns.

        Raises:
            OSError: the disk refused (it is full, say). Nothing of the operation is left in the file.
        """
        data = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            try:
                written = 0
                while written < len(data):
                    written += os.write(self._fd, data[written:])
            except BaseException:  # Ctrl-C too: half a line would corrupt the next one
                os.ftruncate(self._fd, self._size)
                raise
            self._size += len(data)
            self._left += 1

    def read(self, most: int) -> list[tuple[Record, int]]:
        """The oldest unacknowledged operations, at most `most`, each with the offset to acknowledge after it."""
        found: list[tuple[Record, int]] = []
        for line, end in self._lines(self._acked):
            found.append((_parse(line), end))
            if len(found) == most:
                break
        return found

    def ack(self, end: int, count: int) -> None:
        """Mark the next `count` operations, up to offset `end`, as delivered.

        Raises:
            OSError: the mark could not be saved; it holds for this process, a later one delivers them again.
        """
        with self._lock:
            self._acked = end
            self._left -= count
        write_atomic(self._ack_path, f"{end}\n")

    def rewind(self) -> None:
        """Mark everything as not delivered."""
        with self._lock:
            self._unpack()
            self._acked = 0
            self._left = sum(1 for _ in self._lines(0))
            self._ack_path.unlink(missing_ok=True)

    def pack(self) -> None:
        """Compress what was delivered, if that is all there is. A crash here means that some is delivered twice."""
        with self._lock:
            if self._left or self._size < PACK_BYTES:
                return
            with self._packing.open("wb") as file:
                if self._packed.exists():
                    with self._packed.open("rb") as before:
                        shutil.copyfileobj(before, file)
                with gzip.GzipFile(fileobj=file, mode="wb") as packed, self._path.open("rb") as lines:
                    shutil.copyfileobj(lines, packed)
                file.flush()
                os.fsync(file.fileno())
            os.replace(self._packing, self._packed)
            self._ack_path.unlink(missing_ok=True)  # first: it is of the file as it was
            os.ftruncate(self._fd, 0)
            self._size = self._acked = 0

    def _unpack(self) -> None:
        if not self._packed.exists():
            return
        with self._lock, self._unpacking.open("wb") as file:
            file.writelines(_packed_lines(self._packed))
            with self._path.open("rb") as lines:
                shutil.copyfileobj(lines, file)
            file.flush()
            os.fsync(file.fileno())
            self._ack_path.unlink(missing_ok=True)
            os.replace(self._unpacking, self._path)
            os.close(self._fd)
            self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND)
            self._size = os.fstat(self._fd).st_size
            self._packed.unlink()

    def operations(self) -> Iterator[Record]:
        """Every operation ever appended, the delivered ones too, oldest first."""
        for packed in _packed_lines(self._packed):
            yield _parse(packed)
        for line, _ in self._lines(0):
            yield _parse(line)

    def sync(self) -> None:
        """Force what was appended to disk, so that it survives a power cut."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file. The queue cannot be used afterwards."""
        os.close(self._fd)

    def _load_ack(self) -> int:
        try:
            acked = int(self._ack_path.read_text())
        except (FileNotFoundError, ValueError):
            return 0
        # After a power cut the file may be shorter than what was delivered from it.
        acked = min(acked, self._size)
        at_line_start = acked == 0 or (acked > 0 and os.pread(self._fd, 1, acked - 1) == b"\n")
        return acked if at_line_start else 0

    def _lines(self, start: int) -> Iterator[tuple[bytes, int]]:
        """Whole lines from offset `start` to the present end, each with the offset after it."""
        with self._lock:
            stop = self._size
        rest, offset = b"", start
        position = start
        while position < stop:
            chunk = os.pread(self._fd, min(READ_BYTES, stop - position), position)
            if not chunk:
                return
            position += len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                offset += len(line) + 1
                yield line, offset


def deliver_anew_elsewhere(outbox: Outbox, study_dir: Path, uri: str) -> None:
    """What was delivered to one store (by a wrong URL, say) is delivered to another from the start."""
    path = uri.partition("?")[0].removeprefix("sqlite:///")  # what follows may contain a password
    at_a_file = uri.startswith("sqlite:///")
    here = f"sqlite in {os.path.relpath(path, study_dir)}" if at_a_file else redact(uri)  # a home may be moved
    note = study_dir / STORE
    if note.exists() and note.read_text(errors="replace") != here:
        outbox.rewind()
    with suppress(OSError):
        note.write_text(here)


def forget_outbox(folder: Path) -> None:
    """Remove the outbox of a study, and what is known of its delivery."""
    for name in (OUTBOX, PACKED, ACK, REJECTS, STORE):
        (folder / name).unlink(missing_ok=True)


def read_records(folder: Path) -> Iterator[Record]:
    """Every complete record of an outbox, oldest first, without opening it, which would repair it."""
    path = folder / OUTBOX
    for line in _packed_lines(folder / PACKED):
        yield _parse(line)
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield _parse(line)


def waiting_records(folder: Path) -> int:
    """How many records wait for delivery, without opening the outbox."""
    try:
        delivered = int((folder / ACK).read_text())
    except (OSError, ValueError):
        delivered = 0
    path = folder / OUTBOX
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, delivered))
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(READ_BYTES), b""))


def _packed_lines(path: Path) -> Iterator[bytes]:
    """The complete lines of a compressed outbox, as far as it can be read."""
    if not path.is_file():
        return
    with suppress(EOFError, OSError, zlib.error), gzip.open(path) as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line


def _cut_half_line(fd: int) -> int:
    """Cut what follows the last newline of the file, and return the size that is left."""
    size = os.fstat(fd).st_size
    end = size
    while end > 0:
        start = max(0, end - READ_BYTES)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(fd, end)
    return end


def _parse(line: bytes) -> Record:
    """One line as an operation; a line damaged on disk becomes ``{"op": "unreadable", ...}``."""
    try:
        operation = json.loads(line)
    except ValueError:
        operation = None
    return operation if isinstance(operation, dict) else {"op": "unreadable", "line": line.decode(errors="replace")}
