"""A ledger in a file: Optuna's journal, with no half-written lines left and one sync for what belongs together."""

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, NoReturn

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from sweeper.files import STALE_TRIES, STALE_WAIT_S, write_atomic

NO_PICKLE: Final = "a ledger's journal cannot be pickled: it belongs to the one driver that holds the study's lock"


class DamagedLine(ValueError):
    """A line that nothing here has written.

    Args:
        place: file and number of the line, from 1.
    """

    def __init__(self, place: str) -> None:
        super().__init__(f"{place} is not a record")
        self.place = place


class Journal(BaseJournalBackend):
    """A file of one JSON object per line, the format of Optuna's `JournalFileBackend`. A write that fails half way, on
    a full disk, say, leaves nothing behind. The lock is an flock, which dies with its process; the lock file of
    Optuna's own outlives a kill -9 by 30 s."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts = [0]  # of the lines that were read, and of the next one
        self.syncs_later = False
        path.touch()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The logs from this number on. A file that another machine has replaced meanwhile (`rewrite`) is reopened."""
        for attempt in range(STALE_TRIES):
            try:
                for log in self._logs_from(log_number_from):
                    log_number_from += 1
                    yield log
                return
            except OSError as error:
                if error.errno != errno.ESTALE or attempt + 1 == STALE_TRIES:
                    raise
                time.sleep(STALE_WAIT_S)

    def _logs_from(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        first = min(log_number_from, len(self._starts) - 1)
        with open(self._path, "rb") as file:
            file.seek(self._starts[first])
            left = os.fstat(file.fileno()).st_size - self._starts[first]  # what others append meanwhile is for later
            for number, line in enumerate(file, first):
                left -= len(line)
                if left < 0 or (left == 0 and not line.endswith(b"\n")):  # a writer is in the middle of the last line
                    return
                log = _log(line, f"{self._path}:{number + 1}")
                if number + 1 == len(self._starts):
                    self._starts.append(self._starts[number] + len(line))
                if number >= log_number_from:
                    yield log

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        data = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with self._locked(), open(self._path, "ab", buffering=0) as file:
            size = file.tell()
            try:
                written = 0
                while written < len(data):
                    written += file.write(data[written:])
                if not self.syncs_later:
                    os.fsync(file.fileno())
            except BaseException:  # Ctrl-C too: otherwise the next line would follow half of this one
                os.truncate(self._path, size)
                raise

    def sync(self) -> None:
        """Force what was written to disk."""
        with open(self._path, "ab") as file:
            os.fsync(file.fileno())

    def rewrite(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Change lines, all at once or not at all; only the caller may be writing."""
        with self._locked():
            lines = self._path.read_text(encoding="utf-8").splitlines()
            changed = [json.dumps(change(json.loads(line)), separators=(",", ":")) for line in lines]
            write_atomic(self._path, "".join(f"{line}\n" for line in changed), sync=True)
            self._starts = [0]

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        with open(self._path.with_suffix(".lock"), "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file


class LedgerJournal(JournalStorage):
    """Optuna's storage in a journal file.

    Attributes:
        journal: the file.
    """

    def __init__(self, path: Path) -> None:
        self.journal = Journal(path)
        super().__init__(self.journal)

    def rewrite(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """As for the journal; then read it again."""
        self.journal.rewrite(change)
        super().__init__(self.journal)

    def __reduce__(self) -> NoReturn:
        raise TypeError(NO_PICKLE)


def _log(line: bytes, place: str) -> dict[str, Any]:
    try:
        log = json.loads(line)
    except (ValueError, RecursionError):
        raise DamagedLine(place) from None
    if not isinstance(log, dict) or not isinstance(log.get("op_code"), int):
        raise DamagedLine(place)
    return log
