"""A copy of a home beside the original: its own records are its own, those in a shared MLflow are asked about."""

import shutil
from pathlib import Path

import pytest

from sweeper.errors import UserError
from sweeper.tracking.study_tracker import refuse_copy_of_home

SERVER = "http://127.0.0.1:1"


@pytest.fixture
def original(tmp_path: Path) -> Path:
    home = tmp_path / "original"
    (home / "studies" / "toy").mkdir(parents=True)
    refuse_copy_of_home(home, home / "studies" / "toy")
    return home


def go_on(home: Path) -> None:
    refuse_copy_of_home(home, home / "studies" / "toy")


def test_a_copy_with_one_mlflow_is_refused_while_the_original_is_there(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    go_on(copy)  # with a database of its own, nothing is shared
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    go_on(original)
    with pytest.raises(UserError, match="this is a copy of the study in") as refused:
        go_on(copy)
    assert str(original / "studies" / "toy") in refused.value.render()
    assert "--new" in refused.value.render()
    shutil.rmtree(original)
    go_on(copy)
    go_on(copy)


def test_a_home_that_was_moved_goes_on(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    moved = original.rename(tmp_path / "moved")
    go_on(moved)
    original.symlink_to(moved)  # reached by its old name too
    go_on(original)
    go_on(moved)


@pytest.mark.parametrize("note", ["", "nonsense", "[]", '{"path": 5}'])
def test_a_damaged_note_is_written_anew(original: Path, note: str) -> None:
    path = original / "studies" / "toy" / "outbox.place"
    path.write_text(note)
    go_on(original)
    assert str(original) in path.read_text()
