"""Files that are either complete or absent."""

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper import files
from sweeper.files import STALE_TRIES, remove_half_written, reread, sha256_of, write_atomic


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    write_atomic(path, "old")
    write_atomic(path, "néw", sync=True)
    assert path.read_text(encoding="utf-8") == "néw"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept.json"
    write_atomic(path, "old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new", sync=True)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_half_written_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    kill = "import os, sys; from sweeper import files; files.os.replace = lambda *_: os.kill(os.getpid(), 9)"
    write = "from pathlib import Path; files.write_atomic(Path(sys.argv[1]), 'never')"
    subprocess.run([sys.executable, "-c", f"{kill}; {write}", str(tmp_path / "stage.json")], check=False)
    [left] = tmp_path.iterdir()
    assert left.name.startswith(".stage.json.")
    theirs = [tmp_path / name for name in ("notes.tmp", ".a.tmp", "backup.20261231235959.tmp", ".a.x7.tmp")]
    left = [tmp_path / name for name in (f".a.{os.getpid()}.tmp", ".a.2147483648.tmp", ".a.20261231235959.tmp")]
    for path in (*theirs, *left):
        path.write_text("")
    (folder := tmp_path / ".folder.1.tmp").mkdir()
    (link := tmp_path / ".link.1.tmp").symlink_to(theirs[0])
    os.mkfifo(pipe := tmp_path / ".pipe.1.tmp")
    living = tmp_path / ".report.html.1.tmp"
    with living.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        remove_half_written(tmp_path)
    assert set(tmp_path.iterdir()) == {*theirs, folder, link, pipe, living}


def test_a_file_that_is_being_written_is_not_a_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def replaced_late(source: Path, place: Path) -> None:
        remove_half_written(tmp_path)
        replace(source, place)

    monkeypatch.setattr(files.os, "replace", replaced_late)
    write_atomic(tmp_path / "stage.json", "whole")
    assert (tmp_path / "stage.json").read_text() == "whole"


def test_the_checksum_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"content").hexdigest()


@pytest.mark.parametrize(("number", "times", "tries"), [(errno.ESTALE, 2, 3), (errno.ESTALE, 99, 5), (errno.EIO, 1, 1)])
def test_a_stale_handle_is_reopened_a_few_times_and_nothing_else_is(
    monkeypatch: pytest.MonkeyPatch, number: int, times: int, tries: int
) -> None:
    monkeypatch.setattr(files, "STALE_WAIT_S", 0.0)
    errors = [OSError(number, "the server says so")] * times
    tried = []

    def read() -> str:
        tried.append(1)
        if errors:
            raise errors.pop()
        return "content"

    if times < STALE_TRIES and number == errno.ESTALE:
        assert reread(read) == "content"
    else:
        with pytest.raises(OSError, match="the server says so"):
            reread(read)
    assert len(tried) == tries
