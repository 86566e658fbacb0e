import json
import os
from pathlib import Path

import pytest

from mano_trainers.report import EpochReport
from sweeper.checkpoints.manifest import damage
from sweeper.entrypoint.reports import ReportError, checked
from sweeper.entrypoint.trial.checkpoint_copy import as_reported


def reported(path: Path | str, workdir: Path, step: int = 1) -> Path:
    checkpoint = checked(EpochReport(step, step, {}, path), None, workdir).checkpoint  # type: ignore[arg-type]
    assert checkpoint is not None
    return checkpoint


def test_a_file_that_is_written_again_is_kept_as_it_was(tmp_path: Path) -> None:
    last = tmp_path / "last.pt"
    kept = []
    for step, content in enumerate((b"one", b"two"), start=1):
        last.write_bytes(content)
        kept.append(reported(last, tmp_path, step))
    assert [folder.name for folder in kept] == ["checkpoint_000001", "checkpoint_000002"]
    assert [as_reported(folder).read_bytes() for folder in kept] == [b"one", b"two"]  # type: ignore[union-attr]
    assert [damage(folder) for folder in kept] == [None, None]


def test_a_folder_that_changes_afterwards_is_kept_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "weights.bin").write_bytes(b"one")
    kept = reported(folder, tmp_path)
    (folder / "inner" / "weights.bin").write_bytes(b"two")
    assert (kept / "inner" / "weights.bin").read_bytes() == b"one"
    assert as_reported(kept) == kept
    assert json.loads((kept / "manifest.json").read_text())["step"] == 1


def test_the_trials_own_folder_may_be_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"one")
    first = reported(tmp_path, tmp_path)
    second = reported(tmp_path, tmp_path, step=2)
    assert [path.name for path in sorted(second.iterdir())] == ["manifest.json", "weights.bin"]
    assert first != second


def test_a_folder_with_a_manifest_stays_where_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "epoch_001"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"step": 1, "files": {}}')
    assert reported(folder, tmp_path) == folder


@pytest.mark.parametrize("beside", ["the working folder", "the trial's folder"])
def test_a_relative_path_is_found(beside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workdir, working = tmp_path / "trial", tmp_path / "working"
    workdir.mkdir()
    working.mkdir()
    monkeypatch.chdir(working)
    ((working if beside == "the working folder" else workdir) / "last.pt").write_bytes(b"one")
    assert reported("last.pt", workdir).parent == workdir


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReportError, match="is an empty folder"):
        reported(tmp_path / "empty", tmp_path / "trial")


def test_an_evaluation_that_is_repeated_keeps_the_first_copy(tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"one")
    kept = reported(tmp_path / "last.pt", tmp_path)
    (tmp_path / "last.pt").write_bytes(b"two")
    assert reported(tmp_path / "last.pt", tmp_path) == kept
    assert (kept / "last.pt").read_bytes() == b"one"


def test_a_manifest_of_another_kind_is_part_of_the_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"name": "an app"}')
    kept = reported(folder, tmp_path)
    (folder / "manifest.json").write_text("{}")
    back = as_reported(kept)
    assert back == kept / "web"
    assert (back / "manifest.json").read_text() == '{"name": "an app"}'
    assert damage(kept) is None
    (kept / "web" / "manifest.json").write_text("{}")
    assert damage(kept) == "web/manifest.json does not match the manifest"


def test_a_dangling_link_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(b"one")
    (folder / "latest").symlink_to("gone")
    assert sorted(path.name for path in reported(folder, tmp_path).iterdir()) == ["manifest.json", "weights.bin"]


def test_what_cannot_be_copied_is_refused_at_once(tmp_path: Path) -> None:
    workdir = tmp_path / "home" / "trial"
    (workdir / "with a pipe").mkdir(parents=True)
    os.mkfifo(workdir / "pipe")
    os.mkfifo(workdir / "with a pipe" / "pipe")
    for what, why in (
        (workdir / "pipe", "is neither a file nor a folder"),
        ("/dev/zero", "is neither a file nor a folder"),
        (workdir / "with a pipe", "cannot be copied: .* is a named pipe"),
        (tmp_path, "contains the trial's own folder; report the folder that was written"),
    ):
        with pytest.raises(ReportError, match=why):
            reported(what, workdir)
    assert not list(workdir.glob("checkpoint_*"))


def test_a_working_folder_that_is_gone_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    (tmp_path / "last.pt").write_bytes(b"one")
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert as_reported(reported(tmp_path / "last.pt", tmp_path)) == tmp_path / "checkpoint_000001" / "last.pt"
