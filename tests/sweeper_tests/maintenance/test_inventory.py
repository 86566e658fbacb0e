"""`doctor`, `sync` and `status` agree about a study, whatever was done to MLflow or to the home."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from finished import finish_study
from mlflow_helpers import runs_of, uri_of
from studies import make_spec

from sweeper.errors import EXIT_NOT_RECORDED, EXIT_TRIAL_FAILED, UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.storage.location import JOURNAL
from sweeper.ledger.trial import Report
from sweeper.maintenance import studies as doctor_home
from sweeper.maintenance.doctor import Diagnosis, _still_there, examine
from sweeper.maintenance.finding import Finding
from sweeper.maintenance.inventory import lacking
from sweeper.maintenance.sync import sync_study
from sweeper.tracking import Tracker, find_trial, tracking_uri
from sweeper.views.status import status

Harm = Callable[[Any, Path], None]


@pytest.fixture
def home(tmp_path: Path, template_db: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of two trials that are completely in MLflow; `older.*` are from when it had one trial."""
    monkeypatch.setattr("sweeper.maintenance.doctor.doctor_machine.findings", lambda home: [])
    made = tmp_path / "home"
    made.mkdir()
    shutil.copy(template_db, made / "mlflow.db")
    spec = make_spec(trials=2)
    ledger = finish_study(made, spec, lambda params: 5.0, trials=1)
    sync_study(made, "toy")
    settle(made)
    shutil.copy(made / "mlflow.db", tmp_path / "older.db")
    shutil.copy(ledger.study_dir / JOURNAL, tmp_path / "older.journal")
    finish_study(made, spec, lambda params: 5.0, trials=1)
    sync_study(made, "toy")
    settle(made)
    return made


def settle(home: Path) -> None:
    """Finish the study as the driver does at the end."""
    stream = Ledger.open(home / "studies" / "toy", "toy").attributes.stream
    tracker = Tracker(home / "studies" / "toy", tracking_uri(home), home / "artifacts", "toy", stream=stream)
    tracker.start_study({}, {})
    tracker.finish_study("FINISHED", {}, {})
    assert tracker.flush(60) == 0
    tracker.close()


def told(home: Path, *, fix: bool = False) -> list[tuple[str, str, str]]:
    found = examine(home, fix=fix)
    return [(each.finding.what, each.fixed, each.failed) for each in found if each.finding.status.name != "PASS"]


def delete_run(name: str) -> Harm:
    return lambda client, home: client.delete_run(runs_of(uri_of(home))[name].info.run_id)


def set_running(name: str) -> Harm:
    return lambda client, home: client.update_run(runs_of(uri_of(home))[name].info.run_id, "RUNNING")


def older_database(client: Any, home: Path) -> None:
    shutil.copy(home.parent / "older.db", home / "mlflow.db")


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (delete_run("toy-0001"), "1 trials have no run in MLflow: toy-0001"),
        (delete_run("toy"), "1 runs are not in MLflow as they were delivered: toy"),
        (set_running("toy-0000"), "1 runs still appear as running in MLflow: toy-0000"),
        (set_running("toy"), "1 runs still appear as running in MLflow: toy"),
        (older_database, "1 trials have no run in MLflow: toy-0001"),
    ],
)
def test_what_mlflow_has_lost_is_found_and_sent_again_by_doctor(home: Path, harm: Harm, expected: str) -> None:
    assert told(home) == []
    harm(mlflow.MlflowClient(uri_of(home)), home)
    assert [what for what, _, _ in told(home)] == [expected]
    [(what, fixed, failed)] = told(home, fix=True)
    assert (what, failed) == (expected, "")
    assert "records delivered, MLflow is up to date" in fixed
    assert told(home) == []
    assert "nothing to do, MLflow is up to date" in sync_study(home, "toy").sentence()
    assert {name: run.info.status for name, run in runs_of(uri_of(home)).items()} == dict.fromkeys(
        ("toy", "toy-0000", "toy-0001"), "FINISHED"
    )


def test_lost_artifacts_are_found_and_sent_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.maintenance.sync.STALLED_S", 1.0)
    shutil.rmtree(home / "artifacts")
    [what] = [what for what, _, _ in told(home)]
    assert what.startswith(f"2 runs have lost their artifacts: {home}/artifacts/toy/")
    with pytest.raises(UserError, match=r"has no trial\.yaml"):
        find_trial(uri_of(home), "toy-0001")
    assert [(fixed != "", failed) for _, fixed, failed in told(home, fix=True)] == [(True, "")]
    assert told(home) == []
    assert find_trial(uri_of(home), "toy-0001").trial_id == "toy-0001"
    shutil.rmtree(home / "artifacts")
    (home / "artifacts").touch()
    synced = sync_study(home, "toy")
    assert synced.code == EXIT_TRIAL_FAILED, "there is a file in the way"
    assert "up to date" not in synced.sentence()


def test_what_a_fix_does_not_fix_is_never_called_fixed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delete_run("toy-0001")(mlflow.MlflowClient(uri_of(home)), home)
    monkeypatch.setattr(doctor_home, "_send", lambda home, study: "toy: MLflow is up to date")
    [(what, fixed, failed)] = told(home, fix=True)
    assert what == "1 trials have no run in MLflow: toy-0001"
    assert (fixed, failed) == ("", "it is still found after this: toy: MLflow is up to date")
    passed = Diagnosis(Finding("x", doctor_home.CheckStatus.PASS, "y"), "")
    assert _still_there(passed) == passed


def test_sync_that_does_not_close_a_gap_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delete_run("toy-0001")(mlflow.MlflowClient(uri_of(home)), home)
    monkeypatch.setattr(Tracker, "verify", lambda self: None)  # which would have found it
    synced = sync_study(home, "toy")
    assert synced.code == EXIT_TRIAL_FAILED
    assert synced.sentence().splitlines()[-1] == "toy: 1 trials have no run in MLflow: toy-0001"
    assert "up to date" not in synced.sentence()


def test_status_reports_what_doctor_reports(home: Path) -> None:
    assert status(home, "toy")["lacking"] == ""
    shutil.copy(home.parent / "older.journal", home / "studies" / "toy" / JOURNAL)
    [(what, _, _)] = told(home)
    assert what == "the ledger does not have the trial toy-0001, which was sent to MLflow"
    assert status(home, "toy")["lacking"] == what


def test_a_copy_of_a_home_is_reported_by_doctor_and_status(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    assert told(copy) == [], "it has a database of its own"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri_of(home))
    ledger = Ledger.open(copy / "studies" / "toy", "toy")
    [gap] = lacking(copy, ledger, ask_mlflow=True)
    assert gap.what.endswith("and this copy would write to the same MLflow")
    assert [what for what, _, _ in told(copy)] == [gap.what]
    assert status(copy, "toy")["lacking"] == gap.what
    assert lacking(home, Ledger.open(home / "studies" / "toy", "toy"), ask_mlflow=True) == []


def test_a_study_of_an_earlier_version_whose_ledger_does_not_name_its_outbox_is_accepted(home: Path) -> None:
    ledger = Ledger.open(home / "studies" / "toy", "toy")
    ledger.attributes.stream = None
    assert lacking(home, ledger, ask_mlflow=True) == []


def test_a_missing_checkpoint_of_an_unfinished_trial_is_reported_by_status(home: Path) -> None:
    ledger = Ledger.create(home / "studies" / "toy", "toy")
    record = ledger.ask(make_spec(trials=3))
    ledger.report(record.id, Report(1, 1.0, {}, "trials/0002/epoch_001", 1), None)
    lacks = status(home, "toy")["lacking"]
    assert lacks == "trials/0002/epoch_001 of toy-0002, which has not ended, is missing"
    assert sync_study(home, "toy").code == EXIT_NOT_RECORDED, "it cannot be sent"
