"""A study home on a mount that is not a POSIX file system: it works, or advice is given before anything is written."""

import subprocess
import sys
from pathlib import Path

import pytest
from checker import check
from faulty import SHORT, FreshHome, environment
from places import TESTS

pytestmark = pytest.mark.slow
CANNOT = {
    "flock": "does not support locks: No locks available",
    "rename": "does not rename a file over another: File exists",
    "fsync": "does not sync files: Invalid argument",
    "folder_fsync": "does not sync folders: Invalid argument",
}


def run(home: Path, mount: Path, faults: str, *options: str) -> "subprocess.CompletedProcess[str]":
    line = [str(mount), faults, "run", str(home.parent / "spec.yaml"), "--home", str(home), *options]
    command = [sys.executable, str(TESTS / "odd_disk.py"), *line]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment())


@pytest.mark.parametrize("fault", CANNOT)
def test_what_a_mount_cannot_do_is_reported(fault: str, fresh_home: FreshHome) -> None:
    home = fresh_home(SHORT)
    done = run(home, home, fault)
    assert done.returncode == 2, done.stderr
    said = " ".join(done.stderr.split())
    assert f"error: the file system of the study home {CANNOT[fault]}" in said
    assert "name a --home on a disk of this machine, and keep a copy on this one with --sync-to" in said
    assert "Traceback" not in said
    assert not [path for path in (home / "studies").rglob("*") if path.is_file()]


def test_a_home_on_a_slow_disk_whose_times_jump_works(fresh_home: FreshHome) -> None:
    home = fresh_home(SHORT)
    done = run(home, home, "slow,mtime")
    assert done.returncode == 0, done.stderr
    check(home)


def test_a_copy_on_a_mount_that_can_do_none_of_this_works(fresh_home: FreshHome, tmp_path: Path) -> None:
    drive = tmp_path / "drive"
    first, second = fresh_home(SHORT), fresh_home(SHORT)
    for home in (first, second):
        done = run(home, drive, "flock,rename,fsync,folder_fsync,slow,mtime", "--sync-to", str(drive))
        assert done.returncode == 0, done.stderr
        assert "is tried again" not in done.stderr
        check(home)
    assert "continues from its copy" in done.stderr
