import json
from pathlib import Path

import pytest
from studies import make_spec

from sweeper.console import to_json
from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.spec.objective import Objective
from sweeper.views.status import status
from sweeper.views.study import list_studies, print_list, print_study, show_study
from sweeper.views.tables.trial_table import shown_metrics, trial_columns

OBJECTIVE = "val/pa_mpjpe_mm"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A study with a winner, a pruned, a collapsed and a failed trial, and one that is still running."""
    folder = tmp_path / "studies" / "toy"
    folder.mkdir(parents=True)
    ledger = Ledger.create(folder, "toy")
    spec = make_spec(trials=5)
    ledger.attributes.spec = spec.effective
    endings = [
        (TrialState.COMPLETE, "ran all 4 epochs", [20.0, 15.0, 12.0, 10.5]),
        (TrialState.PRUNED, "rank 2 of 2 at epoch 2: 18 is worse than the cutoff 15", [19.0, 18.0]),
        (TrialState.COLLAPSED, "collapse: ratio <b>low</b> | flat", [9.0]),
        (TrialState.FAILED, "ValueError: boom", []),
        (None, "", [float("nan")]),
    ]
    for state, reason, values in endings:
        trial_id = ledger.ask(spec).id
        for epoch, value in enumerate(values, start=1):
            metrics = {OBJECTIVE: value, "val/theta_var_ratio": 0.25, "val/skill": 0.4}
            ledger.report(trial_id, Report(epoch, float(epoch), metrics, None, epoch), value)
        if state:
            ledger.finish(trial_id, state, reason, {}, (values[-1] if values else None,))
    return tmp_path


@pytest.mark.parametrize(("trials", "rows"), [(30, 30), (31, 20), (60, 20)])
def test_a_long_table_shows_the_best_and_says_how_many_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trials: int, rows: int
) -> None:
    folder = tmp_path / "studies" / "toy"
    folder.mkdir(parents=True)
    ledger = Ledger.create(folder, "toy")
    spec = make_spec(trials=trials)
    ledger.attributes.spec = spec.effective
    for number in range(trials):
        trial_id = ledger.ask(spec).id
        value = float((number * 7) % trials)  # 0 is the best
        ledger.report(trial_id, Report(1, 1.0, {OBJECTIVE: value}, None, 1), value)
        ledger.finish(trial_id, TrialState.COMPLETE, "ValueError: [/foo] [bold]x", {}, (value,))
    print_study(tmp_path, "toy")
    lines = capsys.readouterr().out.splitlines()
    shown = [line for line in lines if line.startswith("toy-00") and "told apart" not in line]
    assert len(shown) == rows
    assert all("[/foo] [bold]x" in line for line in shown), "a trainer's brackets are no markup"
    if rows < trials:
        assert shown[0].split()[0] == "toy-0000"
        assert f"the best 20 trials; {trials - 20} more: `sweeper show toy --home {tmp_path} --json`" in lines


def test_the_table_names_the_winner_the_states_and_the_reasons(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_study(home, "toy")
    text = capsys.readouterr().out
    assert "best trial: toy-0000  val/pa_mpjpe_mm 10.50\n" in text
    assert "40% better than the best constant pose on the same data\n" in text
    assert "1 WAITING, 1 COMPLETE, 1 PRUNED, 1 COLLAPSED, 1 FAILED\n" in text
    assert "rank 2 of 2 at epoch 2: 18 is worse than the cutoff 15" in text
    assert f"sweeper reproduce toy:best --home {home}\n" in text
    header = next(line for line in text.splitlines() if line.startswith("ID"))
    assert header.split() == ["ID", "scale", "epochs", "pa_mpjpe_mm", "theta_var_ratio", "state", "reason"]


def test_a_metric_that_is_an_objective_has_one_column(home: Path) -> None:
    objectives = [Objective(metric=OBJECTIVE, mode="min"), Objective(metric="val/theta_var_ratio", mode="max")]
    trials = Ledger.open(home / "studies" / "toy", "toy").trials()
    columns = trial_columns(trials, {}, shown_metrics(objectives, trials))
    heads = [column.head for column in columns]
    assert heads == ["ID", "epochs", "pa_mpjpe_mm", "theta_var_ratio", "state", "reason"]
    assert [column.cells[0] for column in columns[2:4]] == ["10.50", "0.250"]


def test_a_trainer_with_its_own_metrics_gets_columns_for_them() -> None:
    metrics = {"train/loss": 1.0, "val/accuracy": 0.91, "val/top5": 0.99, "epoch": 1.0}
    trial = TrialRecord("toy-0000", 0, {}, reports=(Report(1, 1.0, metrics, None, 1),))
    assert shown_metrics([Objective(metric="val/accuracy", mode="max")], [trial]) == ["val/accuracy", "val/top5"]


def test_json_has_what_scripts_need_and_no_nan(home: Path) -> None:
    study = json.loads(to_json(show_study(home, "toy")))
    assert (study["study"], study["winner"]) == ("toy", "toy-0000")
    trial = study["trials"][0]
    names = {"id", "state", "reason", "params", "epochs", "seconds", "metrics", "mlflow_run_id", "role", "control"}
    assert set(trial) == names
    assert (trial["epochs"], trial["metrics"][OBJECTIVE], trial["role"]) == (4, 10.5, "candidate")
    assert study["trials"][4]["metrics"][OBJECTIVE] is None


def test_a_study_of_another_version_is_reported_and_the_others_are_still_listed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = home / "studies" / "old"
    other.mkdir()
    old = Ledger.create(other, "old")
    old.attributes.spec = make_spec().effective | {"colour": "red"}
    with pytest.raises(UserError, match="the study `old` was written by another version: colour: Extra inputs"):
        show_study(home, "old")
    assert [row["study"] for row in list_studies(home, [])] == ["toy"]


def test_the_list_counts_states(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [row] = list_studies(home, [])
    assert row["states"] == {"WAITING": 1, "COMPLETE": 1, "PRUNED": 1, "COLLAPSED": 1, "FAILED": 1}
    assert (row["winner"], row["best"]) == ("toy-0000", 10.5)
    told = sum(len(trial.reports) for trial in Ledger.open(home / "studies" / "toy", "toy").all_trials())
    assert status(home, "toy")["evaluations"] == told > 0
    print_list(home, [])
    assert "10.50 val/pa_mpjpe_mm" in capsys.readouterr().out


def test_an_unknown_study_is_reported_with_the_existing_ones(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no study `toi`") as caught:
        show_study(home, "toi")
    assert caught.value.problems[0].help == "did you mean `toy`?"
    with pytest.raises(UserError, match="no study `heads`") as caught:
        show_study(home, "heads")
    assert caught.value.problems[0].help == f"the studies in {home} are: toy"
    with pytest.raises(UserError) as caught:
        show_study(tmp_path / "empty", "toy")
    assert caught.value.problems[0].help == f"there are no studies in {tmp_path / 'empty'} yet"


def test_what_stopping_saved_is_reported_once_all_trials_have_ended(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_study(home, "toy")
    assert "early saved" not in capsys.readouterr().out
    ledger = Ledger.create(home / "studies" / "toy", "toy")
    ledger.finish("toy-0004", TrialState.STOPPED, "budget", {}, (None,))
    print_study(home, "toy")
    assert "7 epochs run instead of 12: stopping early saved 42%\n" in capsys.readouterr().out


def test_reasons_to_doubt_a_result_are_reported(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger.create(home / "studies" / "toy", "toy")
    trial_id = ledger.ask(make_spec()).id
    ledger.report(trial_id, Report(1, 1.0, {OBJECTIVE: 11.25}, None, 9), 11.25)
    ledger.finish(trial_id, TrialState.COMPLETE, "ran all 4 epochs", {}, (11.25,))
    check = {"name": "split.subjects", "status": "WARN", "measured": "2 subjects in both", "expected": "0"}
    passed = {"name": "labels", "status": "PASS", "measured": "0", "expected": "0", "help": ""}
    ledger.attributes.preflight = {"summary": "2 checks", "checks": [passed, check | {"help": "split by subject"}]}
    print_study(home, "toy")
    text = capsys.readouterr().out
    tie = "toy-0000 and 0005 cannot be told apart by one run each (10.50, 11.25 mm): run `sweeper winners toy --home"
    assert f"\n{tie} {home}`\n" in text
    assert "\npreflight WARN split.subjects: 2 subjects in both, expected 0; split by subject\n" in text
