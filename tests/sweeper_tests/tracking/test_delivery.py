"""What the delivering thread does with a damaged outbox, and with a store that has lost what it had."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow_helpers import points_of, runs_of, start, uri_of
from studies import make_spec

from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialState
from sweeper.tracking import Tracker, find_trial
from sweeper.tracking.callback import MLflowCallback
from sweeper.tracking.schema import STUDY_PROVENANCE

OpenTracker = Callable[..., Tracker]
BAD_LINES = (
    '{"x":1}',
    '{"op":"start"}',
    '{"op":"report","trial":"toy-0001","step":9,"ms":9}',
    '{"op":"report","trial":"toy-0001","st',
    "\x00\x00",
)


def test_bad_lines_are_set_aside_and_the_rest_arrives(home: Path, study_dir: Path, open_tracker: OpenTracker) -> None:
    first = open_tracker(paused=True)
    start(first, "toy-0001")
    first.report("toy-0001", 1, 1, {"a": 1.0})
    first.close()
    lines = (study_dir / "outbox.jsonl").read_text().splitlines()
    (study_dir / "outbox.jsonl").write_text("\n".join([*lines[:2], *BAD_LINES, *lines[2:], ""]))

    second = open_tracker()
    second.report("toy-0001", 2, 2, {"a": 2.0})
    assert second.flush(60) == 0
    assert second.problem is None
    assert [point[0] for point in points_of(uri_of(home), "toy-0001")] == [1, 2]
    rejected = [json.loads(line) for line in (study_dir / "outbox.rejected.jsonl").read_text().splitlines()]
    assert len(rejected) == len(BAD_LINES)
    assert all(each["why"].startswith("not a valid record") for each in rejected)


def test_a_replaced_store_gets_everything_again(
    home: Path, study_dir: Path, open_tracker: OpenTracker, template_db: Path
) -> None:
    first = open_tracker()
    start(first, "toy-0001")
    first.report("toy-0001", 1, 1, {"a": 1.0})
    first.finish_trial("toy-0001", "FINISHED", {"sweeper.state": "COMPLETE"})
    assert first.flush(60) == 0
    first.close()
    shutil.rmtree(home / "artifacts")
    shutil.copy(template_db, home / "other.db")

    (study_dir / "outbox.store").write_text(
        "sqlite in ../../other.db"
    )  # only the experiment shows that it is another one
    second = open_tracker(f"sqlite:///{home}/other.db")
    second.report("toy-0001", 2, 2, {"a": 2.0})
    assert second.flush(60) == 0
    uri = f"sqlite:///{home}/other.db"
    assert points_of(uri, "toy-0001") == [(1, "a", 1, 1.0), (2, "a", 2, 2.0)]
    assert runs_of(uri)["toy-0001"].data.tags["sweeper.state"] == "COMPLETE"


def test_a_run_that_was_deleted_while_the_study_runs_comes_back(home: Path, open_tracker: OpenTracker) -> None:
    tracker = open_tracker()
    start(tracker, "toy-0001")
    assert tracker.flush(60) == 0
    client = MlflowClient(uri_of(home))
    client.delete_run(runs_of(uri_of(home))["toy-0001"].info.run_id)
    tracker.report("toy-0001", 1, 1, {"a": 1.0})
    assert tracker.flush(60) == 0
    assert points_of(uri_of(home), "toy-0001") == [(1, "a", 1, 1.0)]


def test_an_experiment_that_was_deleted_while_the_study_runs_comes_back(
    home: Path, study_dir: Path, open_tracker: OpenTracker
) -> None:
    tracker = open_tracker()
    start(tracker, "toy-0001")
    assert tracker.flush(60) == 0
    client = MlflowClient(uri_of(home))
    client.delete_experiment(client.get_experiment_by_name("toy").experiment_id)
    tracker.report("toy-0001", 1, 1, {"a": 1.0})
    assert tracker.flush(60) == 0
    assert points_of(uri_of(home), "toy-0001") == [(1, "a", 1, 1.0)]
    assert not (study_dir / "outbox.rejected.jsonl").exists()


def test_more_params_and_tags_than_mlflow_takes_in_one_call_all_arrive(home: Path, open_tracker: OpenTracker) -> None:
    tracker = open_tracker()
    params = {f"p{number}": number for number in range(250)}
    tags = {f"t{number}": number for number in range(250)}
    tracker.start_trial("toy-0001", params, tags, {})
    for step in range(50):
        tracker.report("toy-0001", step, step, {f"m{number}": 1.0 for number in range(40)})
    assert tracker.flush(60) == 0
    run = runs_of(uri_of(home))["toy-0001"]
    assert len(run.data.params) == 250
    assert {f"t{number}" for number in range(250)} <= set(run.data.tags)
    assert len(points_of(uri_of(home), "toy-0001")) == 2000


def test_a_trial_costs_few_calls(home: Path, open_tracker: OpenTracker) -> None:
    """Everything that waits for a run goes into one `log_batch`: run, values, data set, end."""
    tracker = open_tracker(paused=True)
    start(tracker)
    for number in range(20):
        trial_id = f"toy-{number:04d}"
        tracker.start_trial(trial_id, {"lr": number}, {"a": "b"}, {"trial.yaml": "x"}, {"set": "0123"})
        for step in (1, 2):
            tracker.report(trial_id, step, step, {"a": 1.0})
            tracker.tag_trial(trial_id, {"sweeper.rung": str(step)})
        tracker.finish_trial(trial_id, "FINISHED", {"sweeper.state": "COMPLETE"})
    calls: list[str] = []
    client = MlflowClient(uri_of(home))
    real = type(client).__getattribute__

    class Counting(MlflowClient):
        def __getattribute__(self, name: str):  # type: ignore[no-untyped-def]
            if not name.startswith("_"):
                calls.append(name)
            return real(self, name)

    tracker._writer._client = Counting(uri_of(home))
    tracker.deliver()
    assert tracker.flush(60) == 0
    assert len(calls) <= 4 * 20 + 15, sorted(calls)


def test_the_winner_is_named_only_once_its_run_exists(
    home: Path, open_tracker: OpenTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    log_batch = MlflowClient.log_batch

    def noted(self: MlflowClient, run_id: str, **values: Any) -> None:
        told.extend(tag.key for tag in values["tags"])
        log_batch(self, run_id, **values)

    monkeypatch.setattr(MlflowClient, "log_batch", noted)
    tracker = open_tracker(paused=True)
    tracker.start_study({"sweeper.study_id": "toy"}, {})
    start(tracker, "toy-0001")
    tracker.finish_trial("toy-0001", "FINISHED", {"sweeper.state": "COMPLETE"})
    tracker.finish_study("FINISHED", {"sweeper.winner": "toy-0001"}, {})
    tracker.deliver()
    assert tracker.flush(60) == 0
    assert told.index("sweeper.state") < told.index("sweeper.winner"), (
        "a kill in between leaves no winner without a run"
    )
    assert runs_of(uri_of(home))["toy"].info.start_time <= runs_of(uri_of(home))["toy-0001"].info.start_time


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_checkpoint_is_on_disk_only_once_if_nobody_writes_to_it_again(
    home: Path, study_dir: Path, open_tracker: OpenTracker, has_manifest: bool
) -> None:
    """Only a manifest says that the trainer has completed it: other trainers may write into their files again."""
    tracker = open_tracker()
    start(tracker, "toy-0001")
    folder = study_dir / "trials" / "0001" / "epoch_001"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"x" * 1000)
    if has_manifest:
        (folder / "manifest.json").write_text('{"files": {}}')
    tracker.checkpoint("toy-0001", folder, "checkpoints/epoch_001")
    assert tracker.flush(60) == 0
    (stored,) = (home / "artifacts").rglob("weights.safetensors")
    assert stored.read_bytes() == b"x" * 1000
    assert stored.samefile(folder / "weights.safetensors") is has_manifest
    shutil.rmtree(folder)  # as `sweeper gc` does
    assert stored.read_bytes() == b"x" * 1000


def test_what_all_trials_share_is_recorded_once_and_found_with_each(
    home: Path, study_dir: Path, open_tracker: OpenTracker
) -> None:
    """Also when the study is resumed with other packages: each trial names what it was run with."""
    tracker, spec = open_tracker(), make_spec()
    ledger = Ledger.create(study_dir, "toy")
    for packages in ({"torch": "1"}, {"torch": "2"}):
        callback = MLflowCallback(tracker, spec, ledger, {"packages": packages, "sources": {"a.py": "0" * 5000}})
        callback.start_study("")
        callback.trial_started(ledger.ask(spec), {"epochs": 2}, 0)
    assert tracker.flush(60) == 0
    for trial_id, packages in (("toy-0000", {"torch": "1"}), ("toy-0001", {"torch": "2"})):
        provenance = find_trial(uri_of(home), trial_id).provenance
        assert provenance["packages"] == packages
        assert provenance["config"] == {"epochs": 2}
        assert provenance["sources"] == {"a.py": "0" * 5000}
        assert STUDY_PROVENANCE not in provenance
    outbox = (study_dir / "outbox.jsonl").read_text()
    assert outbox.count("0" * 5000) == 4, "twice a start of the study, never a trial"


@pytest.mark.parametrize(("retention", "large"), [("all", True), ("last", False)])
def test_what_a_trainer_leaves_in_its_folder_goes_to_its_run(
    retention: str, large: bool, home: Path, study_dir: Path, open_tracker: OpenTracker
) -> None:
    spec, tracker = make_spec(retention=retention), open_tracker()
    ledger = Ledger.create(study_dir, "toy")
    callback = MLflowCallback(tracker, spec, ledger)
    callback.start_study("")
    record = ledger.ask(spec)
    callback.trial_started(record, {}, 0)
    folder = study_dir / "trials" / record.folder
    (folder / "plots").mkdir(parents=True)
    (folder / "plots" / "confusion matrix.csv").write_text("1,0")
    (folder / "large.bin").write_bytes(b"x" * (2 << 20))
    (folder / "log.txt").write_text("said")
    (folder / "mlflow_run.json").write_text("{}")
    callback.trial_finished(ledger.finish(record.id, TrialState.FAILED, "because", {}, (None,)))
    assert tracker.flush(60) == 0
    assert tracker.problem is None

    client, run = MlflowClient(uri_of(home)), runs_of(uri_of(home))["toy-0000"]
    files = {each.path for each in client.list_artifacts(run.info.run_id, "files")}
    assert files == {"files/plots"} | ({"files/large.bin"} if large else set())
    assert run.data.tags.get("sweeper.files_left_out") == (None if large else "1")
    assert [each.path for each in client.list_artifacts(run.info.run_id, "files/plots")] == [
        "files/plots/confusion matrix.csv"
    ]
    assert "log.txt" in {each.path for each in client.list_artifacts(run.info.run_id)}
    assert (folder / "large.bin").exists(), "it stays where it is"
