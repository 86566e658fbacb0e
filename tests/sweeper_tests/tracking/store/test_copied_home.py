"""A copy of a home beside the original: its own records are its own, those in a shared MLflow are asked about."""

import shutil
from pathlib import Path

import mlflow
import pytest
from finished import OBJECTIVE, finish_study
from mlflow_helpers import start
from studies import make_spec

from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.lifecycle.adopt import adopt, fork
from sweeper.lifecycle.options import RunOptions
from sweeper.lifecycle.run import run_study
from sweeper.maintenance.sync import sync_study
from sweeper.tracking import Tracker, find_trial
from sweeper.tracking.store.place import refuse_copy_of_home

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
    with pytest.raises(UserError, match="this copy would write to the same MLflow") as refused:
        go_on(copy)
    assert str(original / "studies" / "toy") in refused.value.render()
    assert "--adopt" in refused.value.render()
    assert "--fork" in refused.value.render()
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


def record(home: Path, uri: str, trial_id: str, **options: str | None) -> list[str]:
    """Start a trial in a study's runs; what people are told."""
    tracker = Tracker(home / "studies" / "toy", uri, home / "artifacts", "toy", **options)  # type: ignore[arg-type]
    start(tracker, trial_id)
    assert tracker.flush(60) == 0
    tracker.close()
    return list(tracker.notices)


def test_a_home_that_was_moved_tells_a_shared_database_where_its_artifacts_are(
    original: Path, tmp_path: Path, template_db: Path
) -> None:
    uri = f"sqlite:///{shutil.copy(template_db, tmp_path / 'shared.db')}"
    other = tmp_path / "other"
    (other / "studies" / "toy").mkdir(parents=True)
    assert record(original, uri, "toy-0001") == record(other, uri, "toy-0009") == []
    moved = original.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"has no trial\.yaml in MLflow"):
        find_trial(uri, "toy-0001")
    [told] = record(moved, uri, "toy-0002")
    assert told == f"this home has moved: MLflow now looks for the artifacts of `toy` in {moved}/artifacts/toy"
    assert find_trial(uri, "toy-0001").trial_id == "toy-0001"
    assert find_trial(uri, "toy-0002").trial_id == "toy-0002"
    assert find_trial(uri, "toy-0009").trial_id == "toy-0009", "of a home that has not moved"
    assert not original.exists(), "nothing is written where the home was"
    assert record(moved, uri, "toy-0003") == []


def test_a_copy_takes_the_study_over_or_becomes_one_of_its_own(
    tmp_path: Path, template_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{shutil.copy(template_db, tmp_path / 'shared.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    home, copy = tmp_path / "home", tmp_path / "copy"
    spec = make_spec(trials=2)
    ledger = finish_study(home, spec, lambda params: 5.0, trials=1)
    ledger.attributes.spec = spec.effective
    sync_study(home, "toy")
    shutil.copytree(home, copy)
    with pytest.raises(UserError, match="this copy would write to the same MLflow"):
        sync_study(copy, "toy")
    with pytest.raises(UserError, match="this copy would write to the same MLflow"):
        run_study(make_spec(trials=5), copy, RunOptions())
    refused = Ledger.open(copy / "studies" / "toy", "toy").attributes
    assert (refused.drift, refused.spec) == ([], spec.effective), "not even that more trials are wanted"
    with pytest.raises(UserError, match="it continues here"):
        fork(home, "toy")
    assert adopt(copy, "toy", None).same_runs
    assert sync_study(copy, "toy").left == 0
    with pytest.raises(UserError, match=str(copy)):
        sync_study(home, "toy")
    assert "now a separate study" in fork(home, "toy")
    for each in (home, copy):
        assert sync_study(each, "toy").left == 0
    client = mlflow.MlflowClient(uri)
    found = {each.name: each for each in client.search_experiments() if each.name.startswith("toy")}
    assert len(found) == 2
    for experiment in found.values():
        [run] = [run for run in client.search_runs([experiment.experiment_id]) if "toy-0000" in run.info.run_name]
        assert [point.step for point in client.get_metric_history(run.info.run_id, OBJECTIVE)] == [1, 2]
    shutil.rmtree(copy)
    assert sync_study(home, "toy").left == 0
