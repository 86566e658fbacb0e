"""When a study or a trial ends before its time."""

from pathlib import Path

import pytest
from studies import OBJECTIVE, Clock, Log, make_spec, make_study, start

from mano_trainers.report import EpochReport
from sweeper.ledger.trial import TrialState
from sweeper.study.controller import StudyController
from sweeper.study.usage.limits import missing_objective, reached


def report(step: int, **metrics: float) -> EpochReport:
    return EpochReport(
        step, float(step), {name.replace("__", "/"): value for name, value in metrics.items()}, None, 8.0
    )


def states(study: StudyController) -> list[TrialState]:
    return [trial.state for trial in study.ledger.trials()]


def test_a_misspelt_objective_is_told_at_the_first_report_and_stops_the_study_when_two_agree(tmp_path: Path) -> None:
    log = Log()
    study = make_study(tmp_path, log)
    first, second = start(study), start(study)
    said = f"the trainer does not report the objective {OBJECTIVE}; it reports val/pa_mpjpe, train/loss; "
    said += "did you mean val/pa_mpjpe?"
    study.on_report(first, report(1, val__pa_mpjpe=3.0, train__loss=1.0))
    assert log.events[-1] == ("notice", f"{first}: {said}")
    assert study.tick() == []
    study.on_report(second, report(1, val__pa_mpjpe=3.0, train__loss=1.0))
    assert study.tick() == [first, second]
    assert states(study) == [TrialState.FAILED, TrialState.FAILED]
    assert study.ledger.trial(first).reason == said
    assert study.next_trial() is None


def test_an_objective_that_comes_later_stops_nothing(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    trials = [start(study) for _ in range(3)]
    for trial_id in trials:
        study.on_report(trial_id, report(1, train__loss=1.0))
    study.on_report(trials[0], EpochReport(2, 2.0, {OBJECTIVE: 5.0}))
    for trial_id in trials[1:]:
        study.on_report(trial_id, report(2, train__loss=1.0))
    assert study.tick() == []


def test_without_a_close_name_three_trials_must_agree_over_two_evaluations(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    trials = [start(study) for _ in range(3)]
    for step in (1, 2):
        assert study.tick() == []
        for trial_id in trials:
            study.on_report(trial_id, report(step, train__loss=1.0))
    assert study.tick() == trials


def test_a_missing_objective_of_several_is_named() -> None:
    from sweeper.ledger.trial import Report, TrialRecord

    spec = make_spec(objective=[{"metric": "val/a", "mode": "min"}, {"metric": "val/bb", "mode": "max"}])
    record = TrialRecord("toy-0000", 0, {}, reports=(Report(1, 1.0, {"val/a": 1.0}, None, 0),))
    assert missing_objective(spec, record) is not None
    assert "the objective val/bb; it reports val/a" in str(missing_objective(spec, record))


def test_trials_that_fail_alike_before_their_first_report_stop_the_study(tmp_path: Path) -> None:
    study = make_study(tmp_path, trials=10)
    for number in range(3):
        assert study.tick() == []
        study.on_error(start(study), "ValueError: no such file")
        assert len(states(study)) == number + 1
    running = start(study)
    assert study.tick() == [running]
    assert study.ledger.trial(running).reason == (
        "3 trials failed before their first report, all with: ValueError: no such file"
    )
    assert study.next_trial() is None


@pytest.mark.parametrize("max_failures", [None, 4])
def test_others_fail_in_their_own_ways(max_failures: int | None, tmp_path: Path) -> None:
    study = make_study(tmp_path, trials=10, max_failures=max_failures)
    for _ in range(3):
        study.on_error(start(study), "ValueError: no such file")
    study.on_error(start(study), "ValueError: another")
    later = start(study)
    study.on_report(later, EpochReport(1, 1.0, {OBJECTIVE: 5.0}))
    study.on_error(later, "ValueError: no such file")
    assert study.tick() == []
    assert study.next_trial() is not None


def test_a_target_that_is_reached_ends_the_study_for_good(tmp_path: Path) -> None:
    study = make_study(tmp_path, trials=10, stop_when={"target": 5.0}, scheduler={"name": "none"})
    first, second = start(study), start(study)
    for trial_id, value in ((first, 6.0), (second, 4.5)):
        study.on_report(trial_id, EpochReport(1, 1.0, {OBJECTIVE: value}))
    study.on_end(first)
    running = start(study)
    assert study.tick() == []
    study.on_end(second)
    assert study.tick() == [running]
    assert study.ledger.trial(running).reason == f"stop_when: {OBJECTIVE} 4.5 has reached the target 5"
    assert study.is_done
    assert reached(study.spec, study.ledger.trials()) is not None


def test_no_improvement_over_trials_ends_the_study(tmp_path: Path) -> None:
    stop_when = {"no_improvement_trials": 2}
    study = make_study(tmp_path, trials=10, stop_when=stop_when, scheduler={"name": "none"})
    for value, ends in ((6.0, False), (5.0, False), (7.0, False), (8.0, True)):
        trial_id = start(study)
        study.on_report(trial_id, EpochReport(1, 1.0, {OBJECTIVE: value}))
        study.on_end(trial_id)
        study.tick()
        assert (study.over is not None) == ends
    assert study.over == f"stop_when: none of the last 2 trials was better than {OBJECTIVE} 5"


def test_a_trial_that_takes_too_long_is_stopped_over_all_its_attempts(tmp_path: Path) -> None:
    from sweeper.ledger.ledger import Ledger

    clock = Clock()
    spec = make_spec(resources={"trial_wall_clock_s": 100.0})
    study = StudyController(spec, Ledger.create(tmp_path, "toy"), [Log()], clock)
    slow, quick = start(study), start(study)
    clock.now_s += 60
    study.on_report(slow, EpochReport(1, 1.0, {OBJECTIVE: 5.0}))
    study.on_report(quick, EpochReport(1, 1.0, {OBJECTIVE: 4.0}))
    study.on_end(quick)
    assert study.tick() == []
    clock.now_s += 41
    assert study.tick() == [slow]
    record = study.ledger.trial(slow)
    assert record.state is TrialState.STOPPED
    assert record.reason == "held its worker for over 100 s (resources.trial_wall_clock_s)"
    assert study.over is None


def test_failures_are_alike_whose_texts_differ_by_the_trials_folder_or_an_address(tmp_path: Path) -> None:
    study = make_study(tmp_path, trials=9, max_failures=3)
    for number in range(3):
        assert study.tick() == []
        trial_id = start(study)
        study.on_error(
            trial_id, f"OSError: /h/studies/toy/trials/000{number}/a.csv of <open at 0x7f{number}a>, {trial_id}"
        )
    study.tick()
    assert study.over is not None
    assert study.over.startswith("3 trials failed before their first report, all with: OSError: /h/studies/toy/trials/")


def test_failures_that_tell_of_different_parameters_are_not_alike(tmp_path: Path) -> None:
    study = make_study(tmp_path, trials=9, max_failures=3)
    for lr in (0.1, 0.2, 0.3):
        study.on_error(start(study), f"ValueError: lr {lr} is too large")
    assert study.tick() == []
    assert study.over is None
