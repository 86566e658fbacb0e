"""Homes with odd paths, and with odd things where their files should be: working, or refused by name."""

import os
import shutil
from pathlib import Path

import pytest
from mlflow_helpers import start

from sweeper.cli.main import main
from sweeper.errors import EXIT_BAD_INPUT, EXIT_OK, UserError
from sweeper.ledger.ledger import Ledger
from sweeper.maintenance.studies import findings as study_findings
from sweeper.tracking import Tracker, find_trial, tracking_uri


@pytest.mark.parametrize("name", ["ledger.journal", "ledger.lock", "lock", "outbox.jsonl", "outbox.store", "spec.yaml"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_not_a_file_is_refused_by_name_and_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str
) -> None:
    """`list`, `show` and `doctor` used to hang on it."""
    study_dir = tmp_path / "home" / "studies" / "toy"
    study_dir.mkdir(parents=True)
    Ledger.create(study_dir, "toy")
    (study_dir / name).unlink(missing_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(study_dir / name)
        case "device":
            (study_dir / name).symlink_to("/dev/zero")
        case _:
            (study_dir / name).mkdir()
    home = ["--home", str(tmp_path / "home")]
    for verb in (["show", "toy"], ["list"]):
        assert main([*verb, *home]) == EXIT_BAD_INPUT
        assert f"{name} of the study `toy` is a" in capsys.readouterr().err
    assert [each.status.name for each in study_findings(tmp_path / "home") if each.check == "studies.toy.files"] == [
        "FAIL"
    ]


@pytest.mark.parametrize("verb", [["list"], ["show", "toy"], ["doctor"], ["gc"], ["run", "{spec}"]])
def test_a_home_that_is_a_pipe_or_a_device_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for home in (tmp_path / "pipe", Path("/dev/null")):
        assert main([*verb, "--home", str(home)]) == EXIT_BAD_INPUT
        assert f"`{home}` is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["a dangling link", "not a folder"])
@pytest.mark.parametrize("name", ["studies", "trials"])
def test_a_folder_on_a_missing_disk_is_not_taken_for_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str
) -> None:
    study_dir = tmp_path / "studies" / "toy"
    study_dir.mkdir(parents=True)
    Ledger.create(study_dir, "toy")
    place = study_dir / "trials" if name == "trials" else tmp_path / "studies"
    shutil.rmtree(place, ignore_errors=True)
    place.symlink_to("/nonexistent/disk") if kind == "a dangling link" else place.touch()
    verbs = [["show", "toy"], ["doctor"]] if name == "trials" else [["list"], ["doctor"], ["show", "toy"]]
    for verb in verbs:
        assert main([*verb, "--home", str(tmp_path)]) != EXIT_OK
        assert f"`{name}` is {kind}" in "".join(capsys.readouterr())


def test_a_spec_that_is_a_named_pipe_is_refused_and_a_pipe_of_the_shell_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert main(["check", str(tmp_path / "pipe")]) == EXIT_BAD_INPUT
    assert "error: this is a pipe, which might never end" in capsys.readouterr().err
    reader, writer = os.pipe()
    os.write(writer, b"name: toy\n")
    os.close(writer)
    assert main(["check", f"/dev/fd/{reader}"]) == EXIT_BAD_INPUT
    assert f"/dev/fd/{reader}:1:1" in capsys.readouterr().err, "read: keys are missing in it"


@pytest.mark.parametrize("name", ["what?", "100%41", "x" * 250 + "/" + "y" * 250])
def test_a_home_whose_path_no_database_url_can_hold_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="MLflow cannot keep its database here: the path"):
        tracking_uri(tmp_path / name)


@pytest.mark.parametrize("name", ["a b", "c#", "50%", "ü", "semi;colon", "it's"])
def test_a_home_with_an_unusual_path_works(tmp_path: Path, template_db: Path, name: str) -> None:
    home = tmp_path / name
    (home / "studies" / "toy").mkdir(parents=True)
    shutil.copy(template_db, home / "mlflow.db")
    tracker = Tracker(home / "studies" / "toy", tracking_uri(home), home / "artifacts", "toy")
    start(tracker, "toy-0001")
    tracker.report("toy-0001", 1, 1, {"a": 1.0})
    assert tracker.flush(60) == 0
    tracker.close()
    assert find_trial(tracking_uri(home), "toy-0001").metrics == {1: {"a": 1.0}}
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
