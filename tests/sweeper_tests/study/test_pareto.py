import math
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import make_spec, message, start

from sweeper.html_report import study_markdown
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.spec.objective import Objective
from sweeper.study.controller import StudyController
from sweeper.study.pareto import objective_values, pareto_front
from sweeper.views.study import print_study, show_study

TWO = [Objective(metric="val/a", mode="min"), Objective(metric="val/b", mode="max")]


def trial(number: int, a: float, b: float, state: TrialState = TrialState.COMPLETE) -> TrialRecord:
    report = Report(1, 1.0, {"val/a": a, "val/b": b}, None, 1)
    return TrialRecord(f"toy-{number:04d}", number, {}, state=state, reports=(report,))


def front(*trials: TrialRecord) -> list[int]:
    return [one.number for one in pareto_front(trials, TWO)]


def test_the_front_is_the_trials_that_no_other_beats() -> None:
    assert front(trial(0, 1, 1), trial(1, 2, 2), trial(2, 2, 1), trial(3, 1, 1), trial(4, 0.5, 0)) == [0, 1, 3, 4]


def test_only_finished_candidates_with_all_values_are_on_the_front() -> None:
    best = (-9.0, 9.0)
    assert front(
        trial(0, 1, 1),
        trial(1, *best, TrialState.PRUNED),
        trial(2, *best, TrialState.COLLAPSED),
        trial(3, -9.0, math.nan),
        TrialRecord("toy-oracle", 0, {}, state=TrialState.COMPLETE, reports=trial(0, *best).reports, control="oracle"),
        TrialRecord("toy-0005", 5, {}),
    ) == [0]
    assert objective_values(trial(0, 1, math.inf), TWO) == (1, None)


POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


@given(POINTS)
def test_every_trial_off_the_front_is_beaten_by_one_on_it(points: list[tuple[int, int]]) -> None:
    trials = [trial(number, a, b) for number, (a, b) in enumerate(points)]
    on = front(*trials)
    assert on
    for number, (a, b) in enumerate(points):
        beaten = any(points[i] != (a, b) and points[i][0] <= a and points[i][1] >= b for i in on)
        assert beaten == (number not in on)


def test_with_one_objective_the_front_is_the_best_trial() -> None:
    one = [Objective(metric="val/b", mode="max")]
    assert [found.number for found in pareto_front([trial(0, 1, 1), trial(1, 1, 3), trial(2, 1, 2)], one)] == [1]


def test_a_study_with_several_objectives_runs_and_shows_its_front(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "studies" / "toy"
    folder.mkdir(parents=True)
    objectives = [{"metric": "val/pa_mpjpe_mm", "mode": "min"}, {"metric": "val/theta_r2", "mode": "max"}]
    spec = make_spec(objective=objectives, scheduler={"name": "none"})
    ledger = Ledger.create(folder, "toy", modes=["min", "max"])
    ledger.attributes.spec = spec.effective
    study = StudyController(spec, ledger, [])
    for error, ratio in ((10.0, 0.3), (12.0, 0.6), (13.0, 0.5), (9.0, math.nan)):
        trial_id = start(study)
        study.on_report(trial_id, message(1, error, ratio))
        study.on_end(trial_id)
    assert [one.state.value for one in ledger.trials()] == ["COMPLETE", "COMPLETE", "COMPLETE", "FAILED"]
    assert ledger.trials()[3].reason == "the trainer never reported a finite val/theta_r2"
    assert show_study(tmp_path, "toy")["pareto_front"] == ["toy-0000", "toy-0001"]
    print_study(tmp_path, "toy")
    text = capsys.readouterr().out
    assert "best trial: toy-0000  val/pa_mpjpe_mm 10.00\n" in text
    assert "  toy-0000  10.00, 0.3\n  toy-0001  12.00, 0.6\n" in text
    assert "- toy-0001  12.00, 0.6\n" in study_markdown("toy", spec, ledger.trials(), ledger.controls())
    told = optuna.load_study(study_name="toy", storage=ledger._optuna.storage).trials
    assert [one.values for one in told] == [[10.0, 0.3], [12.0, 0.6], [13.0, 0.5], None]
