"""A promoted winner is reached from both studies: the search, and its second round with fresh seeds."""

from pathlib import Path

import pytest
from mlflow_helpers import uri_of

from sweeper.tracking import Tracker, register_winner, trial_yaml
from sweeper.tracking.schema import TAG_NOTE
from sweeper.tracking.store.client import open_client

METRIC = "val/pa_mpjpe_mm"


def record(home: Path, study: str, errors_mm: tuple[float, ...]) -> None:
    """A study with a description, whose one trial has a checkpoint at each evaluation."""
    folder, trial = home / "studies" / study, f"{study}-0000"
    tracker = Tracker(folder, uri_of(home), home / "artifacts", study)
    tracker.start_study({TAG_NOTE: f"what {study} is for"}, {"provenance.json": "{}"})
    config = trial_yaml(trial, "scripted_trainer:train", {"threads": 1}, {})
    tracker.start_trial(trial, {}, {"sweeper.role": "candidate"}, {"trial.yaml": config})
    for step, error_mm in enumerate(errors_mm, 1):
        tracker.report(trial, step, step, {METRIC: error_mm})
        checkpoint = folder / f"epoch_{step:03d}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "manifest.json").write_text(f'{{"step": {step}, "files": {{}}}}')
        tracker.checkpoint(trial, checkpoint, f"checkpoints/{checkpoint.name}")
    tracker.finish_trial(trial, "FINISHED", {"sweeper.state": "COMPLETE"})
    assert tracker.flush(60) == 0
    tracker.close()


def notes(home: Path) -> dict[str, str]:
    """Description of each study's run."""
    client = open_client(uri_of(home))
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments, "tags.`sweeper.role` = 'study'")
    return {run.info.run_name: run.data.tags[TAG_NOTE] for run in runs}


@pytest.fixture
def promoted(home: Path) -> Path:
    for study in ("toy", "toy-winners", "other"):
        (home / "studies" / study).mkdir(parents=True)
    record(home, "toy", (9.0,))
    record(home, "toy-winners", (8.0, 7.0, 7.5))
    record(home, "other", (1.0,))
    made = register_winner(uri_of(home), "toy-winners-0000", METRIC, "min", studies=["toy"])
    assert (made.model, made.version, made.checkpoint, made.value) == ("toy-winners", "1", "epoch_002", 7.0)
    return home


def test_the_runs_of_both_studies_link_to_the_model_and_no_other_does(promoted: Path) -> None:
    said = "**Registered model:** [toy-winners, version 1](#/models/toy-winners/versions/1), alias `winner`"
    assert notes(promoted) == {
        "toy": f"{said}\n\nwhat toy is for",
        "toy-winners": f"{said}\n\nwhat toy-winners is for",
        "other": "what other is for",
    }
    version = open_client(uri_of(promoted)).get_model_version("toy-winners", "1")
    assert version.aliases == ["winner"]
    assert version.tags["sweeper.trial_id"] == "toy-winners-0000"


def test_a_later_winner_takes_the_place_of_the_link(promoted: Path) -> None:
    made = register_winner(uri_of(promoted), "toy-winners-0000", METRIC, "max", studies=["toy"])
    assert (made.version, made.checkpoint) == ("2", "epoch_001")
    for study in ("toy", "toy-winners"):
        note = notes(promoted)[study]
        assert note.count("**Registered model:**") == 1
        assert "(#/models/toy-winners/versions/2)" in note
        assert note.endswith(f"\n\nwhat {study} is for")


def test_a_study_that_goes_on_keeps_the_link(promoted: Path) -> None:
    tracker = Tracker(promoted / "studies" / "toy", uri_of(promoted), promoted / "artifacts", "toy")
    tracker.start_study({}, {})
    tracker.finish_study("FINISHED", {TAG_NOTE: "best: [toy-0000](run:toy-0000)"}, {})
    assert tracker.flush(60) == 0
    tracker.close()
    lines = notes(promoted)["toy"].splitlines()
    assert lines[0].startswith("**Registered model:** [toy-winners, version 1]")
    assert lines[2].startswith("best: [toy-0000](#/experiments/")
    assert len(lines) == 3
