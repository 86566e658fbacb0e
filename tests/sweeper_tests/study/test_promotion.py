"""ASHA in mode `promote`: trials wait at rungs, and continue when enough others have turned out worse."""

from pathlib import Path

from studies import make_study, message, report_to_rung, start

from sweeper.ledger.trial import TrialState

PROMOTE = {"name": "asha", "mode": "promote", "grace_epochs": 2, "eta": 2}


def test_a_trial_waits_at_its_rung_and_continues_when_others_are_worse(tmp_path: Path) -> None:
    study = make_study(tmp_path, scheduler=PROMOTE)
    first = start(study)
    checkpoint = tmp_path / "trials" / "0000" / "epoch_002"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").touch()
    study.on_report(first, message(1, 10.0))
    assert not study.on_report(first, message(2, 10.0, checkpoint=checkpoint))
    record = study.ledger.trial(first)
    assert (record.state, record.reason) == (TrialState.PAUSED, "waits at epoch 2: rank 1 of 1")
    assert study.running == 0
    second = start(study)
    assert second != first
    assert not report_to_rung(study, second, 20.0)
    promoted = study.next_trial()
    assert promoted is not None
    assert (promoted.record.id, promoted.resume) == (first, checkpoint)
    assert (study.ledger.trial(first).state, study.ledger.trial(first).reason) == (TrialState.RUNNING, "")


def test_waiting_trials_are_neither_lost_nor_handed_out_by_a_restart(tmp_path: Path) -> None:
    study = make_study(tmp_path, scheduler=PROMOTE)
    assert not report_to_rung(study, start(study), 10.0)

    again = make_study(tmp_path, scheduler=PROMOTE)
    assert again.ledger.trial("toy-0000").state is TrialState.PAUSED
    assert again.ledger.trial("toy-0000").reason == "waits at epoch 2: rank 1 of 1"
    second = start(again)
    assert second == "toy-0001"
    assert not report_to_rung(again, second, 20.0)
    assert start(again) == "toy-0000"

    woken = make_study(tmp_path, scheduler=PROMOTE)
    assert start(woken) == "toy-0000", "a driver left it running"


def test_at_the_end_one_trial_is_complete_and_the_others_are_pruned(tmp_path: Path) -> None:
    study = make_study(tmp_path, scheduler=PROMOTE, trials=3)
    done: dict[str, int] = {}
    while (upcoming := study.next_trial()) is not None:
        trial_id = upcoming.record.id
        value = 10.0 + upcoming.record.number
        for epoch in range(done.get(trial_id, 0) + 1, 9):
            done[trial_id] = epoch
            if not study.on_report(trial_id, message(epoch, value)):
                break
        else:
            study.on_end(trial_id)
    assert study.is_done
    assert done == {"toy-0000": 8, "toy-0001": 2, "toy-0002": 2}
    records = study.ledger.trials()
    assert [record.state for record in records] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED]
    assert records[2].reason == "rank 3 of 3 at epoch 2: 12.00 is worse than the cutoff 10.00"


def test_while_a_trial_runs_a_waiting_one_may_still_be_promoted(tmp_path: Path) -> None:
    study = make_study(tmp_path, scheduler=PROMOTE, trials=2)
    assert not report_to_rung(study, start(study), 10.0)
    running = start(study)
    assert study.next_trial() is None
    assert study.may_come_again
    study.on_error(running, "x")
    assert not study.may_come_again
    assert start(study) == "toy-0000"
