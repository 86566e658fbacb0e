"""Files that are whole or not there."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from sweeper import files
from sweeper.files import STALE_TRIES, reread, sha256_of, write_atomic


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    write_atomic(path, "old")
    write_atomic(path, "néw", sync=True)
    assert path.read_text(encoding="utf-8") == "néw"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
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


def test_the_sum_is_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"content").hexdigest()


@pytest.mark.parametrize(("number", "times", "tries"), [(errno.ESTALE, 2, 3), (errno.ESTALE, 99, 5), (errno.EIO, 1, 1)])
def test_a_stale_handle_is_opened_anew_a_few_times_and_nothing_else_is(
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
