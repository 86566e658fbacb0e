import math
from pathlib import Path

import optuna
import pytest
from ledgers import SPEC, report, run_one

from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialState


def open_ledger(folder: Path, *, create: bool = True) -> Ledger:
    folder.mkdir(exist_ok=True)
    return (Ledger.create if create else Ledger.open)(folder, "toy")


def test_everything_written_is_there_after_reopening(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    record = ledger.ask(SPEC)
    ledger.report(record.id, report(1, math.nan), math.nan)
    ledger.report(record.id, report(2, 3.5), 3.5)
    ledger.finish(record.id, TrialState.PRUNED, "rank 3 of 4", {"cutoff": 2.0}, (3.5,))
    ledger.set_mlflow_run_ids({record.id: "run1"})
    running = ledger.ask(SPEC)

    first, second = open_ledger(tmp_path, create=False).trials()
    assert first.id == "toy-0000"
    assert first.params == record.params
    assert math.isnan(first.reports[0].metrics["val/pa_mpjpe_mm"])
    assert first.reports[1] == report(2, 3.5)
    assert (first.state, first.reason, first.evidence) == (TrialState.PRUNED, "rank 3 of 4", {"cutoff": 2.0})
    assert first.mlflow_run_id == "run1"
    assert (second.id, second.params, second.state) == (running.id, running.params, TrialState.RUNNING)


def test_a_step_is_stored_once(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    trial_id = ledger.ask(SPEC).id
    assert ledger.report(trial_id, report(1, 5.0), 5.0)
    assert not ledger.report(trial_id, report(1, 4.0), 4.0)
    assert [r.metrics["val/pa_mpjpe_mm"] for r in ledger.trial(trial_id).reports] == [5.0]


@pytest.mark.parametrize("steps", [(1, 2, 10), (50_000, 100_000, 1_000_000), (0, 99_999, 100_000)])
def test_steps_are_ordered_by_number(steps: tuple[int, ...], tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    trial_id = ledger.ask(SPEC).id
    for step in steps:
        ledger.report(trial_id, report(step, float(step)), float(step))
    again = open_ledger(tmp_path, create=False).trial(trial_id)
    assert [r.step for r in again.reports] == list(steps)
    assert again.reports == ledger.trial(trial_id).reports


def test_a_step_between_two_known_ones_is_put_in_order(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    trial_id = ledger.ask(SPEC).id
    for step in (100, 300, 200):
        assert ledger.report(trial_id, report(step, 1.0), 1.0)
    assert not ledger.report(trial_id, report(200, 2.0), 2.0)
    assert [r.step for r in ledger.trial(trial_id).reports] == [100, 200, 300]


def test_a_resumed_study_proposes_what_an_uninterrupted_one_would(tmp_path: Path) -> None:
    values = [5.0, 3.0, 8.0, 2.0, 6.0, 1.0]
    unbroken = open_ledger(tmp_path / "a")
    whole = [run_one(unbroken, value) for value in values]
    pieces = [run_one(open_ledger(tmp_path / "b"), value) for value in values]
    assert whole == pieces


def test_a_proposal_cut_off_midway_is_completed_with_the_same_values(tmp_path: Path) -> None:
    for folder in ("whole", "cut"):
        for value in (5.0, 3.0, 8.0, 2.0):
            run_one(open_ledger(tmp_path / folder), value)
    expected = open_ledger(tmp_path / "whole").ask(SPEC)
    open_ledger(tmp_path / "cut").ask(SPEC)
    journal = tmp_path / "cut" / "ledger.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:10])  # the last parameter is half written

    resumed = open_ledger(tmp_path / "cut")
    [left_over] = resumed.unfinished(SPEC)
    assert left_over.params == expected.params
    assert set(left_over.params) == set(SPEC.search_space)


def test_states_are_passed_to_optuna_truthfully(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.COLLAPSED, TrialState.FAILED, TrialState.STOPPED):
        run_one(ledger, 4.0, state)
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "ledger.journal"))
    )
    trials = optuna.load_study(study_name="toy", storage=storage).trials
    told = optuna.trial.TrialState
    assert [trial.state for trial in trials] == [told.COMPLETE, told.PRUNED, told.PRUNED, told.FAIL, told.FAIL]
    assert [bool(trial.constraints) for trial in trials] == [False, False, True, False, False]
    assert trials[0].value == 4.0
    assert trials[2].constraints["collapsed"] > 0


def test_a_kill_between_the_two_writes_of_an_end_is_repaired(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    run_one(ledger, 4.0)
    journal = tmp_path / "ledger.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))  # the end is written, but Optuna was not told
    reopened = open_ledger(tmp_path)
    assert reopened.trials()[0].state is TrialState.COMPLETE
    assert optuna.load_study(study_name="toy", storage=reopened._optuna.storage).trials[0].value == 4.0


def test_a_trial_ends_once(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    run_one(ledger, 4.0)
    with pytest.raises(AssertionError, match="COMPLETE already"):
        ledger.finish("toy-0000", TrialState.FAILED, "again", {}, (None,))


def test_controls_do_not_affect_the_numbers_and_proposals_of_candidates(tmp_path: Path) -> None:
    values = [5.0, 3.0, 8.0, 2.0, 6.0]
    alone = open_ledger(tmp_path / "alone")
    expected = [run_one(alone, value) for value in values]
    ledger = open_ledger(tmp_path / "beside")
    found = []
    for name, value in zip(("oracle", "zero", "constant_pose", "shuffled_labels", "noise"), values, strict=True):
        ledger.add_control(name)
        found.append(run_one(ledger, value))
        ledger.finish(f"toy-{name}", TrialState.COMPLETE, "", {}, (0.0,))
    assert found == expected
    assert [record.id for record in ledger.trials()] == [f"toy-000{number}" for number in range(5)]


def test_a_control_is_still_there_after_reopening_and_can_continue(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.add_control("oracle")
    ledger.report("toy-oracle", report(1, 0.0), 0.0)
    ledger.finish("toy-oracle", TrialState.COMPLETE, "done", {}, (0.0,))
    ledger.set_mlflow_run_ids({"toy-oracle": "run7"})
    ledger.add_control("zero")
    candidate = ledger.ask(SPEC)

    again = open_ledger(tmp_path)
    oracle = again.controls()[0]
    assert (oracle.id, oracle.role, oracle.control, oracle.folder) == ("toy-oracle", "control", "oracle", "oracle")
    assert (oracle.state, oracle.reason, oracle.reports) == (TrialState.COMPLETE, "done", (report(1, 0.0),))
    assert oracle.mlflow_run_id == "run7"
    assert [record.id for record in again.unfinished(SPEC)] == ["toy-zero", candidate.id]
    assert again.report("toy-zero", report(1, 40.0), 40.0)
    assert again.trials() == [candidate]
    with pytest.raises(AssertionError, match="already exists"):
        again.add_control("zero")


def test_a_retry_of_a_failed_control_is_a_new_control(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path, "toy")
    failed = ledger.add_control("oracle")
    ledger.finish(failed.id, TrialState.FAILED, "OSError: gone", {}, (None,))
    again = ledger.add_control("oracle", ledger.trial(failed.id))
    assert (again.id, again.folder, again.retry_of) == ("toy-oracle-2", "oracle-2", "toy-oracle")
    ledger.finish(again.id, TrialState.COMPLETE, "evaluated", {}, (1.0,))
    ledger.set_mlflow_run_ids({again.id: "run2"})
    reopened = Ledger.open(tmp_path, "toy")
    assert [(each.id, each.state, each.mlflow_run_id) for each in reopened.controls()] == [
        ("toy-oracle", TrialState.FAILED, None),
        ("toy-oracle-2", TrialState.COMPLETE, "run2"),
    ]
    assert reopened.trial(again.id).again == 1


def test_a_kill_between_the_two_writes_of_a_controls_end_is_repaired(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.add_control("oracle")
    ledger.finish("toy-oracle", TrialState.COMPLETE, "done", {}, (0.0,))
    journal = tmp_path / "ledger.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    reopened = open_ledger(tmp_path)
    assert reopened.controls()[0].state is TrialState.COMPLETE
    told = optuna.load_study(study_name="toy.controls", storage=reopened._optuna.storage).trials
    assert told[0].state is optuna.trial.TrialState.COMPLETE
