"""The journal as those read it who watch from another machine, over NFS."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from sweeper.ledger.storage import journal
from sweeper.ledger.storage.journal import Journal

LOGS = [{"op_code": number} for number in range(6)]


class Stale:
    """An open file, that another machine replaces after some lines."""

    def __init__(self, file: IO[bytes], lines: int) -> None:
        self._file, self._lines = file, lines

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "Stale":
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self._lines):
            yield next(self._file)
        raise OSError(errno.ESTALE, "Stale file handle")


def stale_after(monkeypatch: pytest.MonkeyPatch, *lines: int) -> None:
    """The next times the journal is opened, it is stale after so many lines each."""
    left = list(lines)
    real: Callable[..., IO[bytes]] = open

    def open_(*arguments: Any, **options: Any) -> Any:
        file = real(*arguments, **options)
        return Stale(file, left.pop(0)) if left else file

    monkeypatch.setattr(journal, "open", open_, raising=False)
    monkeypatch.setattr(journal, "STALE_WAIT_S", 0.0)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.journal"
    Journal(path).append_logs(LOGS)
    return path


def test_a_stale_handle_is_opened_anew_and_no_log_comes_twice(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Journal(written)
    stale_after(monkeypatch, 3, 0, 2)
    assert list(reader.read_logs(1)) == LOGS[1:]
    assert list(reader.read_logs(4)) == LOGS[4:]


def test_a_handle_that_stays_stale_is_told(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale_after(monkeypatch, *[1] * 9)
    with pytest.raises(OSError, match="Stale file handle"):
        list(Journal(written).read_logs(3))
