"""The Tracker against real MLflow stores: what the driver puts in is what MLflow holds in the end."""

import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow_helpers import points_of, runs_of, start, uri_of

from sweeper.tracking import Tracker, find_trial, trial_yaml
from sweeper.tracking.schema import TAG_ALIAS, read_trial_yaml

OpenTracker = Callable[..., Tracker]


def test_a_study_reaches_mlflow_completely(home: Path, study_dir: Path, open_tracker: OpenTracker) -> None:
    known: dict[str, str] = {}
    tracker = open_tracker(on_run=known.__setitem__)
    start(tracker, "toy-0001", "toy-0002", "toy-0003")
    checkpoint = study_dir / "epoch_001"
    checkpoint.mkdir()
    (checkpoint / "manifest.json").write_text('{"files": {}}')
    for step in (1, 2):
        for trial_id in ("toy-0001", "toy-0002"):
            tracker.report(trial_id, step, 1_000 * step, {"val/pa_mpjpe_mm": 10.0 / step, "acc@1": 0.5})
    tracker.checkpoint("toy-0001", checkpoint, "checkpoints/epoch_001")
    tracker.finish_trial("toy-0001", "FINISHED", {"sweeper.state": "COMPLETE", "sweeper.reason": None})
    tracker.finish_trial("toy-0002", "KILLED", {"sweeper.state": "PRUNED", "sweeper.reason": "rank 3 of 3"})
    tracker.finish_trial("toy-0003", "FAILED", {"sweeper.state": "FAILED"})
    tracker.finish_study("FINISHED", {"sweeper.winner": "toy-0001"}, {"summary.md": "# done"})
    assert tracker.flush(60) == 0
    assert tracker.problem is None

    runs = runs_of(uri_of(home))
    assert {name: run.info.status for name, run in runs.items()} == {
        "toy": "FINISHED",
        "toy-0001": "FINISHED",
        "toy-0002": "KILLED",
        "toy-0003": "FAILED",
    }
    parent = runs.pop("toy")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert runs["toy-0002"].data.tags["sweeper.reason"] == "rank 3 of 3"
    assert runs["toy-0001"].data.params == {"optim.lr": repr(0.1 + 0.2)}
    assert known == {name: run.info.run_id for name, run in runs.items()}
    assert points_of(uri_of(home), "toy-0001") == [
        (1, "acc_1", 1_000, 0.5),
        (1, "val/pa_mpjpe_mm", 1_000, 10.0),
        (2, "acc_1", 2_000, 0.5),
        (2, "val/pa_mpjpe_mm", 2_000, 5.0),
    ]
    assert str(home / "artifacts") in parent.info.artifact_uri

    trial = find_trial(uri_of(home), "toy-0001")
    assert trial.config == {"optim": {"lr": 0.1 + 0.2}, "threads": 1}
    assert (trial.study, trial.trainer) == ("toy", "scripted_trainer:train")
    assert trial.provenance == {"python": "x"}  # the study's, since the trial has none
    assert trial.manifests == {"epoch_001": {"files": {}}}


def test_a_file_of_the_study_is_replaced_when_it_is_written_again(
    home: Path, study_dir: Path, open_tracker: OpenTracker, tmp_path: Path
) -> None:
    tracker = open_tracker()
    start(tracker)
    for text in ("half", "all"):
        (study_dir / "report.html").write_text(text)
        tracker.study_file(study_dir / "report.html")
        assert tracker.flush(60) == 0
        client = MlflowClient(uri_of(home))
        run_id = runs_of(uri_of(home))["toy"].info.run_id
        assert Path(client.download_artifacts(run_id, "report.html", str(tmp_path))).read_text() == text


def test_a_resumed_study_creates_no_second_run_or_point(home: Path, open_tracker: OpenTracker) -> None:
    first = open_tracker()
    start(first, "toy-0001")
    first.report("toy-0001", 1, 111, {"a": 1.0})
    first.report("toy-0001", 1, 222, {"a": 2.0})
    first.finish_trial("toy-0001", "FINISHED", {"sweeper.state": "COMPLETE"})
    assert first.flush(60) == 0
    ended = runs_of(uri_of(home))["toy-0001"].info.end_time
    first.close()

    second = open_tracker()
    second.start_study({}, {})
    second.report("toy-0001", 1, 333, {"a": 3.0})  # the driver repeats what is in its ledger
    second.report("toy-0001", 2, 444, {"a": 4.0})
    second.finish_trial("toy-0001", "FINISHED", {"sweeper.state": "COMPLETE"})
    assert second.flush(60) == 0
    assert points_of(uri_of(home), "toy-0001") == [(1, "a", 111, 1.0), (2, "a", 444, 4.0)]
    assert set(runs_of(uri_of(home))) == {"toy", "toy-0001"}
    assert runs_of(uri_of(home))["toy-0001"].info.end_time == ended


def test_a_crash_between_delivery_and_acknowledgement_changes_nothing(
    home: Path, study_dir: Path, open_tracker: OpenTracker
) -> None:
    first = open_tracker()
    start(first, "toy-0001")
    first.report("toy-0001", 1, 111, {"a": 1.0, "nan": math.nan})
    first.finish_trial("toy-0001", "KILLED", {"sweeper.state": "STOPPED"})
    assert first.flush(60) == 0
    before = points_of(uri_of(home), "toy-0001")
    first.close()
    (study_dir / "outbox.ack").unlink()

    second = open_tracker()
    assert second.flush(60) == 0
    after = points_of(uri_of(home), "toy-0001")
    assert [point[:3] for point in after] == [point[:3] for point in before]
    assert {name: run.info.status for name, run in runs_of(uri_of(home)).items()} == {
        "toy": "RUNNING",
        "toy-0001": "KILLED",
    }


def test_a_later_study_with_the_same_name_gets_its_own_runs(
    home: Path, study_dir: Path, open_tracker: OpenTracker
) -> None:
    first = open_tracker()
    start(first, "toy-0001")
    first.report("toy-0001", 1, 111, {"a": 1.0})
    assert first.flush(60) == 0
    first.close()
    for file in study_dir.iterdir():
        file.unlink()
    time.sleep(0.01)  # MLflow orders runs by their start in milliseconds
    second = open_tracker()
    start(second, "toy-0001")
    second.report("toy-0001", 1, 222, {"a": 2.0})
    assert second.flush(60) == 0
    assert find_trial(uri_of(home), "toy-0001").metrics == {1: {"a": 2.0}}


def test_values_that_are_not_finite_arrive(home: Path, open_tracker: OpenTracker) -> None:
    tracker = open_tracker()
    start(tracker, "toy-0001")
    tracker.report("toy-0001", 1, 1, {"nan": math.nan, "inf": math.inf, "tiny": 5e-324, "third": 1 / 3})
    assert tracker.flush(60) == 0
    metrics = find_trial(uri_of(home), "toy-0001").metrics[1]
    assert math.isnan(metrics["nan"])
    assert metrics["inf"] == sys.float_info.max
    assert (metrics["tiny"], metrics["third"]) == (5e-324, 1 / 3)


def test_what_mlflow_refuses_does_not_hold_up_the_rest(home: Path, study_dir: Path, open_tracker: OpenTracker) -> None:
    tracker = open_tracker()
    start(tracker, "toy-0001")
    tracker.checkpoint("toy-0001", study_dir / "never_written", "checkpoints/epoch_001")
    tracker.start_trial("toy-0001", {"optim.lr": 9.0}, {}, {})  # a param cannot change
    tracker.report("toy-0001", 1, 1, {"a": 1.0})
    tracker.report("toy-0001", 2**63, 1, {"a": 1.0})
    tracker.report("toy-0001", 3, 1, {"a": 3.0})
    assert tracker.flush(60) == 0
    assert [point[0] for point in points_of(uri_of(home), "toy-0001")] == [1, 3]
    rejected = (study_dir / "outbox.rejected.jsonl").read_text()
    assert rejected.count("\n") == 3
    assert "never_written" in rejected


def test_every_metric_arrives_whatever_its_name(home: Path, open_tracker: OpenTracker) -> None:
    """MLflow treats names as paths of at most 250 characters; what the trainer called them is in a tag."""
    tracker = open_tracker()
    names = ["val//iou", "/abs", "..", "", "k" * 300, "acc@1", "acc#1", "acc_1", "plain", "ü", "a/../b"]
    tracker.start_trial("toy-0001", {"p@1": 1, "p#1": 2, "p_1": 3}, {}, {})
    tracker.report("toy-0001", 1, 1, {name: float(value) for value, name in enumerate(names)})
    assert tracker.flush(60) == 0
    run = runs_of(uri_of(home))["toy-0001"]
    called = {
        name.removeprefix(TAG_ALIAS): value for name, value in run.data.tags.items() if name.startswith(TAG_ALIAS)
    }
    assert {called.get(key, key): value for key, value in run.data.metrics.items()} == {
        name: float(value) for value, name in enumerate(names)
    }
    assert run.data.metrics["acc_1"] == 7.0, "a name that MLflow takes stays"
    assert {called.get(key, key): value for key, value in run.data.params.items()} == {
        "p@1": "1",
        "p#1": "2",
        "p_1": "3",
    }


def test_a_full_disk_delays_values_but_loses_none(
    home: Path, open_tracker: OpenTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = open_tracker()
    start(tracker, "toy-0001")
    assert tracker.flush(60) == 0

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        tracker.report("toy-0001", 1, 1, {"a": 1.0})
        tracker.report("toy-0001", 2, 2, {"a": 2.0})
        assert tracker.flush(0.5) == 2
    assert tracker.flush(60) == 0
    assert [point[0] for point in points_of(uri_of(home), "toy-0001")] == [1, 2]


@settings(max_examples=50, deadline=None)
@given(
    config=st.dictionaries(
        st.text(min_size=1),
        st.one_of(
            st.floats(allow_nan=False),
            st.integers(),
            st.booleans(),
            st.none(),
            st.text(),
            st.lists(st.floats(allow_nan=False)),
        ),
    )
)
def test_trial_yaml_reads_back_to_the_last_bit(config: dict[str, Any]) -> None:
    record = read_trial_yaml(trial_yaml("t-0001", "a.b:c", config, {"x": 1e-5}))
    assert record == {"trial_id": "t-0001", "trainer": "a.b:c", "params": {"x": 1e-5}, "config": config}
    assert repr(record["config"]) == repr(config)
