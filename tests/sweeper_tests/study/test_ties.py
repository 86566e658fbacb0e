"""Which trials cannot be told from the best after one run each."""

from studies import make_spec

from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.spec.objective import Objective
from sweeper.study.ties import near_ties

LOW = Objective(metric="val/pa_mpjpe_mm", mode="min")


def trial(number: int, *values: float, state: TrialState = TrialState.COMPLETE, **others: float) -> TrialRecord:
    named = {f"val/{name}": value for name, value in others.items()}
    reports = tuple(
        Report(step, float(step), {LOW.metric: value} | named, None, step) for step, value in enumerate(values, 1)
    )
    return TrialRecord(f"toy-{number:04d}", number, {"lr": number + 1}, state, reports=reports)


def ids(*trials: TrialRecord, objective: Objective = LOW) -> list[str]:
    return [each.id for each in near_ties(trials, make_spec(objective=objective.model_dump()))]


def test_the_interval_of_the_best_decides_where_the_trainer_reports_one() -> None:
    best = trial(1, 22.8, pa_mpjpe_low_mm=21.9, pa_mpjpe_high_mm=23.6)
    assert ids(trial(0, 23.5), best, trial(2, 23.7), trial(3, 22.9)) == ["toy-0001", "toy-0003", "toy-0000"]
    assert ids(best, trial(2, 23.7)) == []


def test_otherwise_the_change_in_its_last_evaluation_decides() -> None:
    assert ids(trial(0, 25.0, 20.0, 19.8), trial(1, 19.95), trial(2, 20.1)) == ["toy-0000", "toy-0001"]
    assert ids(trial(0, 19.8), trial(1, 19.8001)) == [], "one evaluation tells no noise"


def test_only_other_configurations_that_ran_to_their_end_count() -> None:
    best = trial(0, 21.0, 20.0)
    same = TrialRecord("toy-0001", 1, best.params, TrialState.COMPLETE, reports=best.reports)
    assert ids(best, same, trial(2, 20.5, state=TrialState.PRUNED)) == []


def test_the_lower_end_decides_for_an_objective_to_maximise() -> None:
    accuracy = Objective(metric="val/accuracy", mode="max")

    def of(number: int, value: float) -> TrialRecord:
        metrics = {"val/accuracy": value, "val/accuracy_low": value - 0.02, "val/accuracy_high": value + 0.1}
        return TrialRecord(
            f"toy-{number:04d}",
            number,
            {"lr": number},
            TrialState.COMPLETE,
            reports=(Report(1, 1.0, metrics, None, 1),),
        )

    assert ids(of(0, 0.9), of(1, 0.885), of(2, 0.87), objective=accuracy) == ["toy-0000", "toy-0001"]
