import json
from pathlib import Path

import pytest
from studies import Clock, Log, make_spec, message, start

from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialState
from sweeper.study.controller import StudyController
from sweeper.study.usage.accounting import OPEN_FILE, used_now


def open_study(folder: Path, clock: Clock, **changes: object) -> StudyController:
    return StudyController(make_spec(**changes), Ledger.create(folder, "toy"), [Log()], clock)


def used_s(study: StudyController) -> float:
    return used_now(study.ledger, study.spec.budget, study.spec.resources).trial_s


def test_every_second_a_trial_holds_its_worker_is_in_the_ledger_once(tmp_path: Path) -> None:
    clock = Clock()
    study = open_study(tmp_path, clock)
    trial_id = start(study)
    for epoch in range(1, 4):
        clock.now_s += 2.5
        study.on_report(trial_id, message(epoch, 20.0 - epoch))
    clock.now_s += 1.0  # the trainer tidies up
    study.on_end(trial_id)
    clock.now_s += 3.0  # nothing runs
    study.close()
    again = Ledger.open(tmp_path, "toy")
    assert again.trial(trial_id).seconds == pytest.approx(8.5)
    assert [report.seconds for report in again.trial(trial_id).reports] == [2.5, 2.5, 2.5]
    assert used_now(again, study.spec.budget, study.spec.resources).wall_clock_s == pytest.approx(11.5)


def test_a_redone_evaluation_costs_although_it_is_not_stored_twice(tmp_path: Path) -> None:
    clock = Clock()
    study = open_study(tmp_path, clock)
    trial_id = start(study)
    for epoch in (1, 1, 2):
        clock.now_s += 2.0
        study.on_report(trial_id, message(epoch, 20.0))
    study.on_end(trial_id)
    assert used_s(study) == pytest.approx(6.0)


def test_the_way_to_a_worker_costs_nothing(tmp_path: Path) -> None:
    clock = Clock()
    study = open_study(tmp_path, clock, budget={"cpu_seconds": 10})
    trial_id = start(study)
    study.meter.wait_for_worker(trial_id)
    clock.now_s += 3600.0  # other people's trials have the cluster
    assert study.tick() == [], "nothing of the budget is used"
    assert json.loads((tmp_path / OPEN_FILE).read_text())["trials"][trial_id]["open_s"] == 0
    study.meter.worker_found(trial_id)
    clock.now_s += 2.0
    study.meter.worker_found(trial_id)  # said twice
    study.on_report(trial_id, message(1, 20.0))
    assert study.ledger.trial(trial_id).reports[0].seconds == 2.0
    other = start(study)
    study.meter.wait_for_worker(other)
    clock.now_s += 1.0
    study.close()  # before it found one
    assert used_s(study) == pytest.approx(3.0)


def test_an_interrupted_attempt_counts_and_so_does_the_next(tmp_path: Path) -> None:
    clock = Clock()
    study = open_study(tmp_path, clock)
    trial_id = start(study)
    clock.now_s += 4.0
    study.close()
    again = open_study(tmp_path, clock)
    assert start(again) == trial_id
    clock.now_s += 3.0
    again.on_error(trial_id, "boom")
    again.close()
    assert used_s(again) == pytest.approx(7.0)


def test_after_a_kill_the_next_driver_books_what_the_last_tick_knew(tmp_path: Path) -> None:
    clock = Clock()
    study = open_study(tmp_path, clock)
    trial_id = start(study)
    clock.now_s += 2.0
    study.on_report(trial_id, message(1, 20.0))
    clock.now_s += 5.0
    study.tick()  # and then: kill -9
    again = open_study(tmp_path, clock)
    assert used_s(again) == pytest.approx(7.0)
    assert used_now(again.ledger, again.spec.budget, again.spec.resources).wall_clock_s == pytest.approx(7.0)
    assert not (tmp_path / OPEN_FILE).exists()


def test_seconds_that_a_report_after_the_last_tick_covers_are_not_booked_again(tmp_path: Path) -> None:
    clock = Clock()
    study = open_study(tmp_path, clock)
    trial_id = start(study)
    clock.now_s += 5.0
    study.tick()
    clock.now_s += 0.5
    study.on_report(trial_id, message(1, 20.0))
    again = open_study(tmp_path, clock)
    assert used_s(again) == pytest.approx(5.5)


def test_a_half_written_file_of_the_meter_is_passed_over(tmp_path: Path) -> None:
    study = open_study(tmp_path, Clock())
    start(study)
    (tmp_path / OPEN_FILE).write_text(json.dumps({"run": "1"})[:5])
    assert used_s(open_study(tmp_path, Clock())) == 0


def test_when_the_budget_is_used_up_running_trials_stop_and_none_starts(tmp_path: Path) -> None:
    clock = Clock()
    study = open_study(tmp_path, clock, budget={"cpu_seconds": 10})
    first, second = start(study), start(study)
    clock.now_s += 3.0
    study.on_report(first, message(1, 20.0))
    clock.now_s += 1.9
    assert study.tick() == []
    clock.now_s += 0.1
    assert study.tick() == [first, second]
    for trial_id in (first, second):
        record = study.ledger.trial(trial_id)
        assert (record.state, record.reason) == (TrialState.STOPPED, "budget: 10 CPU-seconds used up")
    assert study.next_trial() is None
    assert not study.on_report(second, message(1, 20.0)), "a report that was on its way is not stored"
    assert study.ledger.trial(second).reports == ()
    study.close()
    assert used_s(study) == pytest.approx(10.0)

    again = open_study(tmp_path, clock, budget={"cpu_seconds": 10})
    assert again.next_trial() is None


def test_trials_a_killed_driver_left_are_stopped_if_nothing_is_left_for_them(tmp_path: Path) -> None:
    clock = Clock()
    study = open_study(tmp_path, clock, budget={"wall_clock_s": 10})
    trial_id = start(study)
    clock.now_s += 9.9
    study.tick()
    again = open_study(tmp_path, clock, budget={"wall_clock_s": 10})
    clock.now_s += 0.2
    again.tick()
    assert again.ledger.trial(trial_id).state is TrialState.STOPPED


def test_a_budget_of_trials_lets_running_ones_end(tmp_path: Path) -> None:
    study = open_study(tmp_path, Clock(), budget={"trials": 2})
    trial_ids = [start(study), start(study)]
    assert study.next_trial() is None
    assert study.tick() == []
    assert all(study.on_report(trial_id, message(1, 20.0)) for trial_id in trial_ids)
