"""What Optuna's dashboard gets of a study: all candidates with their states, and nothing is written back."""

from pathlib import Path

import optuna
import pytest
from finished import OBJECTIVE, finish_study

from sweeper.errors import UserError
from sweeper.ledger.dashboard_copy import copy_studies
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialState
from sweeper.spec.load import parse_spec

SPEC = """
name: shown
trainer: scripted_trainer:train
search_space:
  scale: {choices: [1.0, 2.0, 3.0, 4.0, 5.0]}
sampler: {name: grid}
objective: {metric: val/pa_mpjpe_mm, mode: min}
controls: []
scheduler: {name: none}
"""
ENDS = {2.0: TrialState.COLLAPSED, 3.0: TrialState.FAILED, 4.0: TrialState.PRUNED}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    ledger = finish_study(
        tmp_path, parse_spec(SPEC, Path("spec.yaml")), lambda params: ENDS.get(params["scale"], params["scale"])
    )
    assert {trial.params["scale"] for trial in ledger.trials()} == {1.0, 2.0, 3.0, 4.0, 5.0}
    return tmp_path


def shown(home: Path) -> optuna.Study:
    return optuna.load_study(study_name="shown", storage=copy_studies(home, ["shown"]))


def test_each_trial_shows_its_state_and_reason_and_each_objective_its_name(home: Path) -> None:
    study, records = shown(home), Ledger.open(home / "studies" / "shown", "shown").trials()
    assert study.metric_names == [OBJECTIVE]
    told = {trial.params["scale"]: trial for trial in study.trials}
    assert {x: trial.state.name for x, trial in told.items()} == {
        1.0: "COMPLETE",
        2.0: "PRUNED",
        3.0: "FAIL",
        4.0: "PRUNED",
        5.0: "COMPLETE",
    }
    assert [trial.number for trial in study.trials] == [record.number for record in records]
    for trial, record in zip(study.trials, records, strict=True):
        assert trial.user_attrs["id"] == record.id
        assert trial.user_attrs["state"] == record.state
        assert trial.user_attrs["reason"] == record.reason
        assert trial.user_attrs["val/theta_var_ratio"] == record.metrics["val/theta_var_ratio"]
        assert trial.intermediate_values == {report.step: report.metrics[OBJECTIVE] for report in record.reports}
    assert told[2.0].user_attrs["state"] == "COLLAPSED"
    assert study.best_trial.params == {"scale": 1.0}


def test_a_trial_whose_driver_has_ended_is_waiting(tmp_path: Path) -> None:
    spec = parse_spec(SPEC, Path("spec.yaml"))
    ledger = finish_study(tmp_path, spec, lambda params: params["scale"], trials=2)
    ledger.ask(spec)
    assert [trial.user_attrs["state"] for trial in shown(tmp_path).trials] == ["COMPLETE", "COMPLETE", "WAITING"]


def test_a_metric_that_is_not_finite_is_left_out(tmp_path: Path) -> None:
    finish_study(
        tmp_path,
        parse_spec(SPEC, Path("spec.yaml")),
        lambda params: float("nan") if params["scale"] == 1.0 else params["scale"],
    )
    told = {trial.params["scale"]: trial.user_attrs for trial in shown(tmp_path).trials}
    assert OBJECTIVE not in told[1.0]
    assert told[5.0][OBJECTIVE] == 5.0


def test_changes_to_the_copy_never_reach_the_ledger(home: Path) -> None:
    journal = home / "studies" / "shown" / "ledger.journal"
    before = journal.read_bytes()
    study = shown(home)
    study.set_user_attr("note", "mine")
    study.add_trial(study.trials[0])
    optuna.delete_study(study_name="shown", storage=study._storage)
    assert journal.read_bytes() == before


def test_several_objectives_keep_their_names(tmp_path: Path) -> None:
    objectives = "objective: [{metric: val/a, mode: min}, {metric: val/b, mode: max}]"
    text = SPEC.replace("objective: {metric: val/pa_mpjpe_mm, mode: min}", objectives)
    (tmp_path / "studies" / "shown").mkdir(parents=True)
    ledger = Ledger.create(tmp_path / "studies" / "shown", "shown", modes=("min", "max"))
    ledger.attributes.spec = parse_spec(text, Path("spec.yaml")).effective
    assert shown(tmp_path).metric_names == ["val/a", "val/b"]
    assert [direction.name for direction in shown(tmp_path).directions] == ["MINIMIZE", "MAXIMIZE"]


def test_a_damaged_ledger_is_reported(home: Path) -> None:
    journal = home / "studies" / "shown" / "ledger.journal"
    journal.write_text("[]\n" + journal.read_text())
    with pytest.raises(UserError, match="the ledger of `shown` is damaged"):
        copy_studies(home, ["shown"])
