"""Reports of scripts that know nothing about the sweeper: from a CSV file, JSON lines, or patterns in their output."""

import csv
import json
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from mano_trainers.report import EpochReport

TAIL_BYTES: Final = 256
"""The last bytes that were read: if they no longer match, the file has been rewritten."""
EPOCH_NAMES: Final = ("epoch", "Epoch", "step", "global_step")
"""Fields of a row that say how far training is; the first one present counts."""


class Reader(Protocol):
    """A source of reports other than the socket."""

    reads_output: bool
    """Whether it needs the process's output."""

    def attach(self, process: "subprocess.Popen[bytes]") -> None:
        """The process has started."""

    def poll(self, has_ended: bool) -> Iterator[EpochReport]:
        """What is new since the last call; `has_ended`: nothing more will follow."""


class RowReader:
    """Rows of a file that the script appends to, CSV with a header or JSON lines: a report for each row with the
    objective.

    Args:
        path: the file; what is in it when the trial starts is not a report.
        objective: name of the metric.
    """

    reads_output = False

    def __init__(self, path: Path, objective: str) -> None:
        self._path, self._objective = path, objective
        before = path.read_bytes() if path.exists() else b""
        self._offset, self._tail = len(before), before[-TAIL_BYTES:]
        self._header: list[str] | None = None
        if path.suffix == ".csv" and before:  # the script may continue it, without another header
            list(self._rows(before.decode(errors="replace").splitlines()[:1]))
        self._count = 0

    def attach(self, process: "subprocess.Popen[bytes]") -> None:
        pass

    def poll(self, has_ended: bool) -> Iterator[EpochReport]:
        for row in self._rows(self._new_lines(has_ended)):
            if self._objective in row:
                self._count += 1
                yield report_of(row, self._count)

    def _new_lines(self, has_ended: bool) -> list[str]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset - len(self._tail))
            if file.read(len(self._tail)) != self._tail:  # rewritten
                self._offset, self._tail, self._header = 0, b"", None
                file.seek(0)
            data = file.read()
        whole = len(data) if has_ended else data.rfind(b"\n") + 1
        self._offset += whole
        self._tail = (self._tail + data[:whole])[-TAIL_BYTES:]
        return [line for line in data[:whole].decode(errors="replace").splitlines() if line.strip()]

    def _rows(self, lines: Iterable[str]) -> Iterator[Mapping[str, float]]:
        for line in lines:
            if self._path.suffix == ".csv":
                cells = next(csv.reader([line]))
                if self._header is None:
                    self._header = [cell.strip() for cell in cells]
                    continue
                yield _numbers(dict(zip(self._header, cells, strict=False)))
            else:
                loaded = json.loads(line)
                yield _numbers(loaded if isinstance(loaded, dict) else {})


class PatternReader:
    """Values in what the script prints, which is passed on: metric -> regular expression whose first group is a number.
    A report is made when the objective is printed, with the latest value of every other metric.

    Args:
        patterns: by name of the metric; `epoch` says how far the training is.
        objective: name of the metric.
    """

    reads_output = True

    def __init__(self, patterns: Mapping[str, str], objective: str) -> None:
        self._patterns = {name: re.compile(pattern) for name, pattern in patterns.items()}
        self._objective = objective
        self._latest: dict[str, float] = {}
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._count = 0

    def attach(self, process: "subprocess.Popen[bytes]") -> None:
        self._thread = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._thread.start()

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.decode(errors="replace")
            sys.stdout.write(line)
            self._lines.put(line)

    def poll(self, has_ended: bool) -> Iterator[EpochReport]:
        if has_ended and self._thread is not None:
            self._thread.join(timeout=5)  # a grandchild may hold the pipe open
        while not self._lines.empty():
            line = self._lines.get()
            found = {name: match for name, pattern in self._patterns.items() if (match := pattern.search(line))}
            self._latest |= _numbers({name: match.group(1) for name, match in found.items()})
            if self._objective in found:
                self._count += 1
                yield report_of(self._latest, self._count)


def report_of(row: Mapping[str, float], count: int, epoch_names: Sequence[str] = EPOCH_NAMES) -> EpochReport:
    """A report of named numbers; `count` is the number of the evaluation, and the epoch if none is named."""
    named = next((name for name in epoch_names if name in row), None)
    epoch = row[named] if named else float(count)
    return EpochReport(count, epoch, {name: value for name, value in row.items() if name != named})


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The fields that are numbers; an empty cell of a CSV file is not one."""
    found = {}
    for name, value in row.items():
        if isinstance(value, bool):
            continue
        try:
            found[name] = float(value)
        except (TypeError, ValueError):
            continue
    return found
