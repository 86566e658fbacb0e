"""Trials found again from MLflow alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow_helpers import start, uri_of

from sweeper.errors import UserError
from sweeper.tracking import Tracker, find_trial
from sweeper.tracking.store.client import artifact_root, tracking_uri
from sweeper.tracking.ui.server import serve_ui

OpenTracker = Callable[..., Tracker]


@pytest.mark.parametrize(
    ("selector", "trial_id"), [("toy-0001", "toy-0001"), ("toy-0002", "toy-0002"), ("toy:best", "toy-0002")]
)
def test_a_trial_is_found(recorded: str, selector: str, trial_id: str) -> None:
    assert find_trial(recorded, selector).trial_id == trial_id


def test_the_named_winner_is_the_best(recorded: str, open_tracker: OpenTracker) -> None:
    tracker = open_tracker()
    tracker.finish_study("FINISHED", {"sweeper.winner": "toy-0001"}, {})
    assert tracker.flush(60) == 0
    assert find_trial(recorded, "toy:best").trial_id == "toy-0001"


@pytest.mark.parametrize(
    ("selector", "what", "help_text"),
    [
        ("toy-001", "`toy-001` matches 2 trials", "toy-0010, toy-0011"),
        ("tyo-0002", "no trial `tyo-0002`", "did you mean toy-0002"),
        ("", "no trial ``", "it has toy-0001, toy-0002"),
        ("tooy:best", "no study `tooy`", "did you mean toy?"),
        ("toy:worst", "cannot read the selector", "STUDY:best"),
    ],
)
def test_a_trial_that_is_not_found(recorded: str, selector: str, what: str, help_text: str) -> None:
    with pytest.raises(UserError, match=what) as caught:
        find_trial(recorded, selector)
    assert help_text in caught.value.render()


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no MLflow store here"):
        find_trial(uri_of(tmp_path), "toy-0001")
    with pytest.raises(UserError, match="no MLflow store here"):
        serve_ui(tmp_path, 5000)
    assert list(tmp_path.iterdir()) == []


def test_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    assert artifact_root(tmp_path) == str(tmp_path / "artifacts")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@localhost:1")
    assert artifact_root(tmp_path) is None
    with pytest.raises(UserError, match="MLflow does not answer") as caught:
        find_trial(tracking_uri(tmp_path), "toy-0001")
    assert "secret" not in caught.value.render()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///tmp/mlruns")
    with pytest.raises(UserError, match="cannot keep a store at file:///tmp/mlruns"):
        tracking_uri(tmp_path)


def test_a_winner_without_a_run_is_named_with_what_to_do(home: Path, open_tracker: OpenTracker) -> None:
    tracker = open_tracker()
    tracker.start_study({"sweeper.study_id": "toy"}, {})
    start(tracker, "toy-0001")
    tracker.finish_study("FINISHED", {"sweeper.winner": "toy-0002"}, {})
    assert tracker.flush(60) == 0
    with pytest.raises(UserError, match="toy-0002, the best trial, has no run in MLflow") as refused:
        find_trial(uri_of(home), "toy:best")
    assert "sweeper sync toy" in refused.value.render()
