"""Which of the files in a trial's folder are its trainer's, and go to MLflow."""

import os
from pathlib import Path

import pytest

from sweeper.checkpoints import leftovers as module
from sweeper.checkpoints.leftovers import leftovers
from sweeper.entrypoint.trial.checkpoint_copy import kept_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a trial that wrote its checkpoint to `last.pt`, and other files."""
    folder = tmp_path / "0007"
    (folder / "plots").mkdir(parents=True)
    (folder / "epoch_001").mkdir()
    (folder / "epoch_001" / "manifest.json").write_text("{}")
    (folder / "last.pt").write_bytes(b"w" * 100)
    kept_checkpoint(folder / "last.pt", folder, 1, 1.0)
    (folder / "log.txt").write_text("ours")
    (folder / "plots" / "log.txt").write_text("theirs, though it has the name")
    (folder / "notes.md").write_text("theirs")
    (folder / "large.bin").write_bytes(b"x" * (module.SMALL_BYTES + 1))
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").touch()
    (folder / ".hidden").touch()
    (folder / "secret").symlink_to("/etc/passwd")
    (folder / "elsewhere").symlink_to("/etc")
    os.mkfifo(folder / "pipe")
    return folder


def names(folder: Path, retention: str) -> tuple[list[str], int]:
    sent, left_out = leftovers(folder, ("log.txt",), retention)
    return [str(path.relative_to(folder)) for path in sent], left_out


def test_what_a_trainer_leaves_is_sent_and_its_checkpoints_are_not_sent_twice(folder: Path) -> None:
    assert names(folder, "all") == (["large.bin", "notes.md", "plots/log.txt"], 0)


@pytest.mark.parametrize("retention", ["best", "last", "rungs"])
def test_large_files_are_not_sent_when_only_some_checkpoints_are_kept(retention: str, folder: Path) -> None:
    assert names(folder, retention) == (["notes.md", "plots/log.txt"], 1)


def test_a_file_that_is_written_again_is_no_longer_a_copy(folder: Path) -> None:
    (folder / "last.pt").write_bytes(b"v" * 100)
    assert "last.pt" in names(folder, "all")[0]


def test_names_that_are_not_text_and_files_beyond_the_limit_are_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / os.fsdecode(b"bad\xff")).touch()
    assert names(folder, "all") == (["large.bin", "notes.md", "plots/log.txt"], 1)
    monkeypatch.setattr(module, "MOST_FILES", 1)
    assert names(folder, "all") == (["large.bin"], 3)


def test_a_folder_that_does_not_exist_holds_nothing(tmp_path: Path) -> None:
    assert leftovers(tmp_path / "gone", (), "all") == ([], 0)
