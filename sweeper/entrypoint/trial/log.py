"""A trial's `log.txt`: what it has written to stdout and stderr, over all attempts."""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from sweeper.redaction import redact

LOG: Final = "log.txt"
EARLIER: Final = "log.1.txt"
"""Previous content of `log.txt`, moved when it became too long."""
LARGEST_BYTES: Final = 10 << 20
CRASH: Final = "Fatal Python error"
"""Python's report of a native crash starts like this, with the innermost line first."""
DUMP: Final = ("Current thread", "Thread 0x", "  File ", "  <no Python frame>", "  ...", "Extension modules:")
"""What follows."""
LONGEST_LINE: Final = 1 << 16


class TrialLog:
    """Appends to a log, without secrets; a full disk costs the log, not the trial."""

    def __init__(self, path: Path, largest_bytes: int = LARGEST_BYTES) -> None:
        self._path, self._largest_bytes = path, largest_bytes
        self._fd, self._bytes = -1, 0
        self._line = b""  # incomplete: a secret in it may be cut in two
        self._open()

    def write(self, data: bytes) -> None:
        """Append the lines that are complete; a partial line that has waited long counts as one."""
        *_, rest = re.split(rb"[\r\n]", data)
        whole = self._line + data[: len(data) - len(rest)] if len(rest) < len(data) else b""
        self._line = rest if whole else self._line + rest
        if len(self._line) > LONGEST_LINE:
            whole, self._line = whole + self._line, b""
        if whole:
            self._append(redact(whole.decode(errors="replace")).encode(errors="replace"))

    def close(self) -> None:
        """Nothing more will follow."""
        if self._line:
            self.write(b"\n")
        self._close_file()

    def _append(self, data: bytes) -> None:
        if self._bytes + len(data) > self._largest_bytes and self._bytes:  # start a new one, and keep the previous one
            self._close_file()
            with suppress(OSError):
                self._path.replace(self._path.with_name(EARLIER))
            self._open()
        with suppress(OSError):
            self._bytes += len(data)
            while data:
                data = data[os.write(self._fd, data) :]

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._bytes = os.fstat(self._fd).st_size


def last_lines(path: Path, count: int, most_bytes: int = 16_384) -> list[str]:
    """The last lines of a log that contain text; for a native crash the first ones of Python's report; none if there is
    no log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - most_bytes))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = [line.rstrip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
    crashes = [place for place, line in enumerate(lines) if line.startswith(CRASH)]
    if crashes and all(line.startswith(DUMP) for line in lines[crashes[-1] + 1 :]):
        return lines[crashes[-1] :][:count]
    return lines[-count:]
