"""A study's decisions about its trials, based on what they report and how they end."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from studies import OBJECTIVE, Log, make_study, message, start

from mano_trainers.report import EpochReport
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.study.controller import StudyController
from sweeper.study.pareto import winner_of


def test_a_trial_that_runs_to_its_end_is_complete_and_wins(tmp_path: Path) -> None:
    log = Log()
    study = make_study(tmp_path, log)
    trial_id = start(study)
    assert all(study.on_report(trial_id, message(epoch, 20.0 - epoch)) for epoch in range(1, 9))
    study.on_end(trial_id)
    record = study.ledger.trial(trial_id)
    assert (record.state, record.reason) == (TrialState.COMPLETE, "ran all 8 epochs")
    assert winner_of(study.ledger.trials(), study.spec.objective) == record
    assert log.events[0] == ("started", "toy-0000 from 0")
    assert log.events[-1] == ("finished", "toy-0000 COMPLETE")


def test_the_worse_of_two_is_pruned_at_the_first_rung_with_its_rank(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    good, bad = start(study), start(study)
    assert study.on_report(good, message(1, 30.0))
    assert study.on_report(good, message(2, 10.0))
    assert study.on_report(bad, message(1, 20.0))
    assert not study.on_report(bad, message(2, 20.0))
    record = study.ledger.trial(bad)
    assert (record.state, record.reason) == (
        TrialState.PRUNED,
        "rank 2 of 2 at epoch 2: 20.00 is worse than the cutoff 10.00",
    )
    assert record.evidence["cutoff"] == 10.0


def test_a_collapsed_trial_takes_no_place_in_a_rung(tmp_path: Path) -> None:
    study = make_study(tmp_path, guards=[{"kind": "collapse", "after_epochs": 1.0, "for_evaluations": 2}])
    collapsed, healthy = start(study), start(study)
    assert study.on_report(collapsed, message(1, 5.0, ratio=0.001))
    assert not study.on_report(collapsed, message(2, 5.0, ratio=0.001))
    assert study.ledger.trial(collapsed).state is TrialState.COLLAPSED
    assert study.on_report(healthy, message(1, 20.0))
    assert study.on_report(healthy, message(2, 20.0)), "its rival at the rung had collapsed"


def test_a_trial_is_not_ranked_at_its_last_epoch(tmp_path: Path) -> None:
    study = make_study(tmp_path, scheduler={"name": "asha", "grace_epochs": 4, "eta": 2})
    good, bad = start(study), start(study)
    for epoch in range(1, 9):
        study.on_report(good, message(epoch, 10.0))
    for epoch in range(1, 8):
        assert study.on_report(bad, message(epoch, 9.0))
    assert study.on_report(bad, message(8, 99.0))


def test_an_exception_in_the_trainer_fails_the_trial_and_keeps_the_traceback(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    trial_id = start(study)
    study.on_error(trial_id, "ValueError: boom", "Traceback ...\nValueError: boom")
    record = study.ledger.trial(trial_id)
    assert (record.state, record.reason) == (TrialState.FAILED, "ValueError: boom")
    assert "Traceback" in (tmp_path / record.evidence["traceback"]).read_text()
    assert winner_of(study.ledger.trials(), study.spec.objective) is None


def test_a_trial_whose_folder_cannot_be_written_still_fails_with_its_reason(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    for spoil in (lambda folder: (folder / "error.txt").mkdir(parents=True), Path.touch):
        trial_id = start(study)
        folder = tmp_path / "trials" / study.ledger.trial(trial_id).folder
        folder.parent.mkdir(exist_ok=True)
        spoil(folder)
        study.on_error(trial_id, "ValueError: boom", "Traceback ...")
        assert (study.ledger.trial(trial_id).state, study.ledger.trial(trial_id).reason) == (
            TrialState.FAILED,
            "ValueError: boom",
        )


def test_a_trainer_that_reports_nothing_has_failed(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    trial_id = start(study)
    study.on_end(trial_id)
    assert study.ledger.trial(trial_id).reason == "the trainer ended without a report"


def ended_with(study: StudyController, *latest: tuple[int, dict[str, float]]) -> TrialRecord:
    """A trial that reports 12 at epoch 1, 10 at epoch 2, then these metrics by epoch, and runs to its end."""
    trial_id = start(study)
    for epoch, metrics in ((1, {OBJECTIVE: 12.0}), (2, {OBJECTIVE: 10.0, "val/skill": 0.5}), *latest):
        assert study.on_report(trial_id, EpochReport(epoch, float(epoch), metrics))
    study.on_end(trial_id)
    return study.ledger.trial(trial_id)


def test_an_objective_missing_from_the_last_report_is_the_last_one_reported(tmp_path: Path) -> None:
    study = make_study(tmp_path, scheduler={"name": "none"})
    gap = ended_with(study, (3, {"train/loss": 1.0}), (4, {"train/loss": 0.5}))
    assert (gap.state, gap.reason) == (
        TrialState.COMPLETE,
        f"ran all 4 epochs; {OBJECTIVE} is from epoch 2, where it was last reported",
    )
    assert gap.value(OBJECTIVE) == 10.0
    assert gap.metrics == {OBJECTIVE: 10.0, "val/skill": 0.5, "train/loss": 0.5}
    whole = ended_with(study, (3, {OBJECTIVE: 11.0}))
    assert whole.reason == "ran all 3 epochs"
    assert winner_of([whole, gap], study.spec.objective) is gap
    told = study.ledger._optuna.candidates.get_trials()
    assert [one.value for one in told] == [10.0, 11.0]
    again = Ledger.open(tmp_path, "toy").trial(gap.id)
    assert (again.value(OBJECTIVE), again.reason) == (10.0, gap.reason)


@pytest.mark.parametrize("last", [math.nan, math.inf])
def test_an_objective_that_ends_non_finite_is_none_and_the_one_before_is_named(last: float, tmp_path: Path) -> None:
    study = make_study(tmp_path, scheduler={"name": "none"}, guards=[])
    diverged = ended_with(study, (3, {OBJECTIVE: last}), (4, {"train/loss": 1.0}))
    assert (diverged.state, diverged.reason) == (
        TrialState.FAILED,
        f"{OBJECTIVE} was {last} at epoch 3; before, at epoch 2, 10",
    )
    assert diverged.value(OBJECTIVE) is None
    assert winner_of([diverged], study.spec.objective) is None


def test_an_interrupted_trial_continues_from_its_last_checkpoint(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    trial_id = start(study)
    checkpoint = tmp_path / "trials" / "0000" / "epoch_001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").touch()
    study.request_stop(2)
    assert not study.on_report(trial_id, message(1, 20.0, checkpoint=checkpoint))
    assert study.running == 0
    assert study.next_trial() is None

    again = make_study(tmp_path)
    upcoming = again.next_trial()
    assert upcoming is not None
    assert upcoming.record.id == trial_id
    assert upcoming.resume == checkpoint
    assert again.on_report(trial_id, message(1, 99.0)), "a redone evaluation is not stored again"
    assert [r.metrics[OBJECTIVE] for r in again.ledger.trial(trial_id).reports] == [20.0]


def test_there_are_no_more_trials_than_the_spec_says(tmp_path: Path) -> None:
    study = make_study(tmp_path, trials=2)
    for _ in range(2):
        study.on_error(start(study), "x")
    assert study.next_trial() is None


def test_per_trial_seeds_differ_and_are_in_the_config(tmp_path: Path) -> None:
    study = make_study(tmp_path, replicate_seed="per_trial", base={"seed": 5})
    first, second = study.next_trial(), study.next_trial()
    assert first is not None
    assert second is not None
    assert (first.config["seed"], second.config["seed"]) == (5, 6)


CONTROLS = ["oracle", "zero", "constant_pose", "shuffled_labels"]


def test_controls_come_first_and_do_not_change_the_candidates(tmp_path: Path) -> None:
    log = Log()
    study = make_study(tmp_path, log, controls=None)
    upcoming = [study.next_trial() for _ in range(6)]
    assert [job.record.id for job in upcoming if job] == [*(f"toy-{name}" for name in CONTROLS), "toy-0000", "toy-0001"]
    assert [job.config["control"] for job in upcoming if job] == [*CONTROLS, None, None]
    assert [job.workdir.name for job in upcoming if job] == [*CONTROLS, "0000", "0001"]
    assert [job.record.role for job in upcoming if job] == ["control"] * 4 + ["candidate"] * 2
    assert study.running == 6
    (tmp_path / "alone").mkdir()
    alone = make_study(tmp_path / "alone")
    assert [alone.next_trial() for _ in range(2)][1].record.params == study.ledger.trial("toy-0001").params  # type: ignore[union-attr]


def test_no_guard_or_rank_stops_a_control_and_it_takes_no_place_in_a_rung(tmp_path: Path) -> None:
    study = make_study(tmp_path, controls=["shuffled_labels"], scheduler={"name": "asha", "grace_epochs": 3, "eta": 2})
    control, candidate = start(study), start(study)
    assert all(study.on_report(control, message(epoch, 1.0, ratio=0.0)) for epoch in (1, 2))
    assert not study.on_report(control, message(3, 1.0, ratio=0.0))
    record = study.ledger.trial(control)
    assert (record.state, record.reason) == (TrialState.COMPLETE, "trained for the grace period of 3 epochs")
    assert all(study.on_report(candidate, message(epoch, 20.0)) for epoch in (1, 2, 3)), "a control ranks nobody"
    assert winner_of([record], study.spec.objective) is None


def test_without_a_scheduler_a_control_trains_two_epochs(tmp_path: Path) -> None:
    study = make_study(tmp_path, controls=["shuffled_labels"], scheduler={"name": "none"})
    control = start(study)
    assert study.on_report(control, message(1, 1.0))
    assert not study.on_report(control, message(2, 1.0))


def test_a_perfect_score_of_zero_counts_as_a_score(tmp_path: Path) -> None:
    study = make_study(tmp_path, controls=["oracle"])
    oracle = start(study)
    assert study.on_report(oracle, replace(message(0, 0.0), step=1))
    study.on_end(oracle)
    record = study.ledger.trial(oracle)
    assert (record.state, record.reason) == (TrialState.COMPLETE, "evaluated without training")


def test_a_study_is_done_only_when_its_controls_are_too(tmp_path: Path) -> None:
    study = make_study(tmp_path, controls=["oracle", "zero"], trials=1)
    oracle, zero, candidate = start(study), start(study), start(study)
    assert study.next_trial() is None
    for trial_id in (oracle, candidate):
        study.on_error(trial_id, "x")
    assert not study.is_done

    again = make_study(tmp_path, controls=["oracle", "zero"], trials=1)
    left_over = again.next_trial()
    assert left_over is not None
    assert left_over.record.id == zero
    assert again.next_trial() is None
    again.on_error(zero, "x")
    assert again.is_done


def test_a_lost_worker_costs_a_retry_from_the_last_checkpoint(tmp_path: Path) -> None:
    log = Log()
    study = make_study(tmp_path, log, resources={"retries": 1})
    trial_id = start(study)
    checkpoint = tmp_path / "trials" / "0000" / "epoch_001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").touch()
    study.on_report(trial_id, message(1, 20.0, checkpoint=checkpoint))
    study.on_lost(trial_id, "the worker process was lost")
    assert ("notice", "toy-0000: the worker process was lost; retry 1 of 1") in log.events

    again = study.next_trial()
    assert again is not None
    assert (again.record.id, again.resume) == (trial_id, checkpoint)
    study.on_lost(trial_id, "the worker hung")
    record = study.ledger.trial(trial_id)
    assert (record.state, record.reason) == (TrialState.FAILED, "the worker hung, 2 times")
    assert Ledger.open(tmp_path, "toy").trial(trial_id).losses == ("the worker process was lost",)


def test_an_exception_is_not_retried(tmp_path: Path) -> None:
    study = make_study(tmp_path, resources={"retries": 5}, trials=1)
    study.on_error(start(study), "ValueError: boom")
    assert study.next_trial() is None
    assert not study.may_come_again


def test_a_loss_while_the_study_is_interrupted_is_left_for_the_next_run(tmp_path: Path) -> None:
    study = make_study(tmp_path, resources={"retries": 0})
    trial_id = start(study)
    study.request_stop(2)
    study.on_lost(trial_id, "the worker process was lost")
    assert study.ledger.trial(trial_id).state is TrialState.RUNNING
    assert study.running == 0
