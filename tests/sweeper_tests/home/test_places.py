"""Nothing leads out of a stranger's study home, neither when files are read nor when they are written."""

import hashlib
import json
import socket
import sqlite3
from pathlib import Path

import pytest
from conftest import OpenTracker
from finished import OBJECTIVE
from hostile import SPEC
from mlflow_helpers import runs_of, start, uri_of

from sweeper.checkpoints.locate import last_good
from sweeper.checkpoints.manifest import damage
from sweeper.cli.main import main
from sweeper.errors import UserError
from sweeper.home import refuse_foreign_links
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.maintenance import gc as garbage
from sweeper.spec.load import parse_spec
from sweeper.tracking import find_trial


@pytest.mark.parametrize("name", ["../private/key", "/etc/passwd", "link", "linked/key"])
def test_a_manifest_may_only_name_files_of_its_checkpoint(tmp_path: Path, outside: Path, name: str) -> None:
    folder = tmp_path / "epoch_001"
    folder.mkdir()
    (folder / "link").symlink_to(outside / "key")
    (folder / "linked").symlink_to(outside)
    sum_of = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"files": {name: {"sha256": sum_of}}}))
    assert damage(folder) == f"its manifest names {name}, which is elsewhere"


@pytest.mark.parametrize("form", ["absolute", "parents", "link"])
def test_no_trial_resumes_from_a_folder_outside_and_gc_removes_none(
    toy: Path, outside: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_dir = toy / "studies" / "toy"
    (study_dir / "link").symlink_to(outside)
    place = {"absolute": str(outside), "parents": "../../../private", "link": "link"}[form]
    assert (study_dir / place / "key").is_file()
    report = Report(3, 3.0, {OBJECTIVE: 1.0}, place, 3)
    folder, _, passed_over = last_good(study_dir, TrialRecord("toy-0000", 0, {}, reports=(report,)))
    assert folder is None
    assert passed_over == [f"the checkpoint {place} is damaged: it is outside the study's folder"]

    class AllIsStored:
        def __init__(self, uri: str) -> None: ...

        def checkpoint(self, run_id: str, name: str) -> dict[str, int]:
            return {"key": len("private")}

        def runs_of(self, folder: Path) -> None: ...

    monkeypatch.setattr(garbage, "Inventory", AllIsStored)
    (study_dir / "trials" / "0000" / "epoch_003").mkdir(parents=True)
    (study_dir / "trials" / "0000" / "epoch_003" / "key").write_text("private")
    with_checkpoint(toy, place)
    with_checkpoint(toy, "trials/0000/epoch_003")
    found, _ = garbage.find_garbage(toy)
    assert [each.folder.name for each in found] == ["epoch_003"]  # so gc does look


def with_checkpoint(home: Path, checkpoint: str) -> None:
    """Add a trial that has ended and whose checkpoint is there."""
    ledger = Ledger.create(home / "studies" / "toy", "toy")
    record = ledger.ask(parse_spec(SPEC, home / "spec.yaml"))
    ledger.report(record.id, Report(1, 1.0, {OBJECTIVE: 1.0}, checkpoint, 1), 1.0)
    ledger.set_mlflow_run_ids({record.id: "0" * 32})
    ledger.finish(record.id, TrialState.FAILED, "boom", {}, (None,))


def test_nothing_outside_the_study_is_handed_to_mlflow(
    home: Path, study_dir: Path, outside: Path, open_tracker: OpenTracker
) -> None:
    tracker = open_tracker()
    start(tracker, "toy-0001")
    (study_dir / "link").symlink_to(outside)
    tracker.checkpoint("toy-0001", outside, "checkpoints/epoch_001")
    tracker.file("toy-0001", outside / "key", "pictures/key")
    tracker.close()
    with (study_dir / "outbox.jsonl").open("a") as outbox:
        for place in ("../../../private", "link"):
            operation = {"op": "checkpoint", "trial": "toy-0001", "ms": 1, "path": f"checkpoints/{place[-4:]}"}
            outbox.write(json.dumps({**operation, "folder": place}) + "\n")
    assert open_tracker().flush(60) == 0
    rejected = (study_dir / "outbox.rejected.jsonl").read_text().splitlines()
    assert ["outside the study's folder" in line for line in rejected] == [True] * 4
    assert [
        path for path in (home / "artifacts").rglob("*") if path.is_file() and path.read_bytes() == b"private"
    ] == []


@pytest.mark.parametrize("form", ["elsewhere", "server", "parents", "link"])
def test_mlflow_writes_no_artifact_where_the_database_of_a_home_points(
    home: Path, study_dir: Path, tmp_path: Path, open_tracker: OpenTracker, form: str
) -> None:
    tracker = open_tracker()
    start(tracker, "toy-0001")
    assert tracker.flush(60) == 0
    tracker.close()
    run_id, target = runs_of(uri_of(home))["toy-0001"].info.run_id, tmp_path / "site-packages"
    target.mkdir()
    (target / "artifacts" / "x" / run_id).mkdir(parents=True)
    (target / "artifacts" / "x" / run_id / "artifacts").symlink_to(target)
    place = {
        "elsewhere": str(target),
        "server": "http://192.0.2.1/artifacts/x/{run_id}/artifacts",
        "parents": f"{home}/artifacts/../{run_id}/artifacts",
        "link": f"{target}/artifacts/x/{run_id}/artifacts",
    }[form]
    with sqlite3.connect(home / "mlflow.db") as database:
        database.execute("update runs set artifact_uri = ? where run_uuid = ?", (place, run_id))
    (study_dir / "sitecustomize.py").write_text("print('owned')")
    tracker = open_tracker()
    tracker.file("toy-0001", study_dir / "sitecustomize.py", "sitecustomize.py")
    assert tracker.flush(60) == 0
    assert "the artifacts of `toy-0001` would go to" in (study_dir / "outbox.rejected.jsonl").read_text()
    assert [path for path in tmp_path.rglob("sitecustomize.py") if path.parent != study_dir] == []


def test_artifacts_that_a_home_places_on_a_web_server_are_not_requested(recorded: str, home: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.2)
        with sqlite3.connect(home / "mlflow.db") as database:
            url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
            database.execute("update runs set artifact_uri = ?", (url,))
        with pytest.raises(UserError, match="the artifacts of `toy-0001` are elsewhere"):
            find_trial(recorded, "toy-0001")
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("name", ["lock", "outbox.jsonl", "trials/0000", "report.html"])
def test_a_link_that_leads_out_is_not_written_through(toy: Path, outside: Path, name: str) -> None:
    link = toy / "studies" / "toy" / name
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(outside / "key")
    assert main(["stop", "toy", "--home", str(toy)]) == 2
    assert (outside / "key").read_text() == "private"
    with pytest.raises(UserError, match="a symbolic link points outside the study `toy`"):
        refuse_foreign_links(toy / "studies" / "toy")


def test_links_within_a_study_and_of_whole_folders_are_fine(toy: Path, tmp_path: Path) -> None:
    study_dir = toy / "studies" / "toy"
    (study_dir / "trials" / "epoch_001").mkdir(parents=True)
    (study_dir / "trials" / "latest").symlink_to("epoch_001")
    (toy / "artifacts").rename(tmp_path / "large-disk") if (toy / "artifacts").exists() else (
        tmp_path / "large-disk"
    ).mkdir()
    (toy / "artifacts").symlink_to(tmp_path / "large-disk")
    (tmp_path / "large-disk" / "toy").mkdir()
    refuse_foreign_links(study_dir)
    (tmp_path / "large-disk" / "toy" / "run").symlink_to(tmp_path)
    with pytest.raises(UserError, match="a symbolic link points outside"):
        refuse_foreign_links(study_dir)
