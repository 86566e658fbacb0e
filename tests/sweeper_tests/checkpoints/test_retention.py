from studies import make_spec

from sweeper.checkpoints.retention import is_at_rung, rung_at, rung_steps
from sweeper.ledger.trial import Report, TrialRecord


def record(*epochs: float, total: float | None = 8.0) -> TrialRecord:
    reports = tuple(Report(step, epoch, {}, None, 0, 0.0, total) for step, epoch in enumerate(epochs, start=1))
    return TrialRecord("toy-0000", 0, {}, reports=reports)


def test_the_rungs_of_a_trial_are_where_it_first_reached_them() -> None:
    spec = make_spec(scheduler={"grace_epochs": 2, "eta": 2})
    trial = record(1, 2, 3, 4.5, 6, 8)
    assert rung_steps(spec, trial) == [2, 4]
    assert [is_at_rung(spec, record(*(1, 2, 3, 4.5, 6, 8)[:count])) for count in range(7)] == [
        False, False, True, False, True, False, False,
    ]  # fmt: skip
    assert rung_at(spec, trial) == 4
    assert rung_steps(spec, record(1, 2, 3, 4.5, 6, 8, total=None)) == [2, 4, 6]


def test_a_control_reaches_no_rung() -> None:
    spec = make_spec(scheduler={"grace_epochs": 2, "eta": 2})
    control = TrialRecord("toy-oracle", 0, {}, reports=record(4).reports, control="oracle")
    assert rung_steps(spec, control) == []
    assert not is_at_rung(spec, control)
