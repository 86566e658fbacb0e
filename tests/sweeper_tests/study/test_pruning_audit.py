"""The pruning audit: stopped trials that keep running, off the books."""

from dataclasses import replace
from pathlib import Path

import pytest
from studies import Log, make_study, message, report_to_rung, start

from sweeper.ledger.trial import TrialState
from sweeper.study.controller import StudyController
from sweeper.study.pareto import winner_of
from sweeper.study.pruning_audit import audit_of, with_audit
from sweeper.study.usage.accounting import audit_seconds


def finish_audited(study: StudyController, trial_id: str, value: float, ratio: float) -> None:
    assert all(study.on_report(trial_id, message(epoch, value, ratio)) for epoch in range(3, 9))
    study.on_end(trial_id)


def test_an_audited_trial_keeps_running_without_being_reported(tmp_path: Path) -> None:
    log = Log()
    study = make_study(tmp_path, log, audit=1.0, guards=[{"kind": "collapse", "after_epochs": 1.0}])
    trial_id = start(study)
    assert study.on_report(trial_id, message(1, 20.0, ratio=0.001))
    assert study.on_report(trial_id, message(2, 20.0, ratio=0.001)), "stopped, but it runs on"
    stopped = study.ledger.trial(trial_id)
    assert stopped.state is TrialState.COLLAPSED
    assert study.running == 1
    events = list(log.events)
    assert audit_of(study.ledger, study.spec, None) is None
    finish_audited(study, trial_id, 5.0, ratio=0.5)
    assert study.running == 0
    assert study.ledger.trial(trial_id) == stopped
    assert log.events == events
    rival = start(study)
    assert all(study.on_report(rival, message(epoch, 20.0)) for epoch in (1, 2)), "it holds no place in a rung"
    found = audit_of(make_study(tmp_path).ledger, study.spec, None)
    assert found is not None
    assert (found.collapsed, found.pruned, found.false_kills) == ((trial_id,), (), (trial_id,))
    assert found.sentence() == (
        "audit: of 1 stopped trials that ran on, 1 were stopped wrongly (100%): "
        "1 of 1 collapsed recovered, 0 of 0 pruned would have won"
    )


@pytest.mark.parametrize(("final", "wrong"), [(9.0, True), (11.0, False)])
def test_a_pruned_trial_was_stopped_wrongly_if_it_would_have_won(tmp_path: Path, final: float, wrong: bool) -> None:
    study = make_study(tmp_path, audit=1.0)
    winner, pruned = start(study), start(study)
    for epoch in range(1, 9):
        study.on_report(winner, message(epoch, 10.0))
    study.on_end(winner)
    assert report_to_rung(study, pruned, 20.0)
    assert study.ledger.trial(pruned).state is TrialState.PRUNED
    finish_audited(study, pruned, final, ratio=0.5)
    found = audit_of(study.ledger, study.spec, winner_of(study.ledger.trials(), study.spec.objective))
    assert found is not None
    assert found.false_kills == ((pruned,) if wrong else ())


def test_an_audit_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    study = make_study(tmp_path, audit=1.0, guards=[{"kind": "collapse", "after_epochs": 1.0}])
    first, second = start(study), start(study)
    for trial_id in (first, second):
        study.on_report(trial_id, message(1, 20.0, ratio=0.001))
        assert study.on_report(trial_id, message(2, 20.0, ratio=0.001))
    study.on_error(first, "the worker process was lost")
    study.request_stop(2)
    assert not study.on_report(second, message(3, 20.0))
    assert study.running == 0
    assert study.ledger.trial(first).state is TrialState.COLLAPSED
    assert audit_of(study.ledger, study.spec, None) is None
    assert make_study(tmp_path).next_trial().record.id == "toy-0002"  # type: ignore[union-attr]


def test_an_audit_that_was_cut_off_with_its_driver_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    spec = {"audit": 1.0, "trials": 1, "guards": [{"kind": "collapse", "after_epochs": 1.0}]}
    study = make_study(tmp_path, **spec)
    trial_id = start(study)
    for epoch in (1, 2, 3):
        checkpoint = tmp_path / "trials" / "0000" / f"epoch_{epoch:03d}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "weights").write_text("w")
        assert study.on_report(trial_id, message(epoch, 20.0, ratio=0.001, checkpoint=checkpoint))
    stopped = study.ledger.trial(trial_id)
    assert stopped.state is TrialState.COLLAPSED
    # the driver is killed here
    log = Log()
    study = make_study(tmp_path, log, **spec)
    assert not study.is_done
    upcoming = study.next_trial()
    assert upcoming is not None
    assert (upcoming.record.id, upcoming.resume) == (trial_id, tmp_path / "trials" / "0000" / "epoch_003")
    assert study.next_trial() is None
    assert all(study.on_report(trial_id, message(epoch, 5.0, ratio=0.5)) for epoch in range(4, 9))
    study.on_end(trial_id)
    assert study.is_done
    assert study.ledger.trial(trial_id) == stopped
    assert log.events == []
    found = audit_of(study.ledger, study.spec, None)
    assert found is not None
    assert found.false_kills == (trial_id,)
    assert make_study(tmp_path, **spec).next_trial() is None, "it is not taken up another time"


def test_an_interrupted_audit_resumes_and_keeps_its_seconds(tmp_path: Path) -> None:
    spec = {"audit": 1.0, "trials": 1, "guards": [{"kind": "collapse", "after_epochs": 1.0}]}
    study = make_study(tmp_path, **spec)
    trial_id = start(study)
    assert all(study.on_report(trial_id, message(epoch, 20.0, ratio=0.001)) for epoch in (1, 2))
    study.request_stop(2)
    assert not study.on_report(trial_id, message(3, 20.0))
    study.close()
    before_s = audit_seconds(study.ledger)
    study = make_study(tmp_path, **spec)
    upcoming = study.next_trial()
    assert upcoming is not None
    assert upcoming.record.id == trial_id
    study.on_end(trial_id)
    assert audit_seconds(study.ledger) > before_s > 0


def test_the_reports_of_an_audited_trial_are_ordered_by_number(tmp_path: Path) -> None:
    study = make_study(tmp_path, audit=1.0, guards=[{"kind": "collapse", "after_epochs": 1.0}])
    trial_id = start(study)
    for epoch in range(1, 5):
        study.on_report(trial_id, replace(message(epoch, 20.0, ratio=0.001), step=50_000 * epoch))
    stopped = study.ledger.trial(trial_id)
    assert [report.step for report in stopped.reports] == [50_000, 100_000]
    audited = with_audit(study.ledger, stopped)
    assert [report.step for report in audited.reports] == [50_000, 100_000, 150_000, 200_000]
