"""The read-only verbs `explain`, `compare` and `importance`, on a study that was really run, but without training."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from studies import OBJECTIVE, make_spec

from mano_trainers.report import EpochReport
from sweeper.analysis.compare import compare_trials, varying_keys
from sweeper.analysis.explain import explain
from sweeper.analysis.importance import importances_of
from sweeper.analysis.trial_lookup import configuration_of, look_up
from sweeper.cli import main as cli
from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.studies import open_study
from sweeper.samplers.importance import NOISE
from sweeper.spec.resolve import SweepSpec, resolve
from sweeper.study.controller import StudyController
from sweeper.views.compare import sparkline

SPACE = {"scale": {"low": 0.1, "high": 10.0, "log": True}, "noise_mm": {"low": 0.0, "high": 1.0}}
EPOCHS = 8


def run_one_by_one(home: Path, spec: SweepSpec, score: Any) -> None:
    """Run a study through the real decisions; the error falls by 1 mm an epoch to `score(params)`."""
    folder = home / "studies" / spec.name
    folder.mkdir(parents=True)
    ledger = Ledger.create(folder, spec.name)
    ledger.attributes.spec = spec.effective
    study = StudyController(spec, ledger, [])
    while upcoming := study.next_trial():
        goes_on, end = True, score(upcoming.record.params)
        for epoch in range(1, EPOCHS + 1):
            flat = math.isnan(end)
            metrics = {OBJECTIVE: (20.0 if flat else end) + EPOCHS - epoch}
            metrics |= {"val/theta_var_ratio": 0.001 if flat else 0.5, "val/theta_r2": 0.0 if flat else 0.5}
            metrics |= {"train/grad_share_param": 0.9 - epoch / 10, "train/grad_share_joint": 0.1 + epoch / 10}
            report = EpochReport(epoch, float(epoch), metrics, total_epochs=float(EPOCHS))
            goes_on = study.on_report(upcoming.record.id, report)
            if not goes_on:
                break
        if goes_on:
            study.on_end(upcoming.record.id)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`toy`: 24 trials in which only the scale matters; the first one is enqueued, and large scales collapse."""
    folder = tmp_path_factory.mktemp("home")
    enqueue = [{"scale": 1.0}]
    sampler = {"name": "tpe", "startup_trials": 6}
    spec = make_spec(search_space=SPACE, trials=24, enqueue=enqueue, sampler=sampler)
    run_one_by_one(folder, spec, lambda params: math.nan if params["scale"] > 6 else 10 + params["scale"])
    return folder


def trials_of(home: Path) -> Any:
    return open_study(home, "toy")[0].trials()


def test_who_proposed_a_trial(home: Path) -> None:
    assert explain(home, "toy-0000").proposed_by == "enqueued by the spec, which left noise_mm to the sampler"
    assert explain(home, "toy-0003").proposed_by == "drawn at random: tpe learns from 6 trials on, and 3 were done"
    assert explain(home, "toy-0009").proposed_by == "proposed by tpe, from 9 trials done by then"


def test_the_last_rung_is_the_one_in_the_reason(home: Path) -> None:
    pruned = [trial for trial in trials_of(home) if trial.state == "PRUNED"]
    assert pruned
    for trial in pruned:
        found = explain(home, trial.id)
        last = found.rungs[-1]
        assert trial.reason.startswith(f"rank {last.rank} of {last.of} at epoch {last.rung_epoch:g}: ")
        assert trial.reason.split(": ")[1].split()[0] in (f"{last.value:.2f}", f"{last.value:.5g}")
        assert [rung.keep for rung in found.rungs] == [True] * (len(found.rungs) - 1) + [False]


def test_a_waiting_trial_did_not_continue_when_it_reached_its_rung(tmp_path: Path) -> None:
    scheduler = {"name": "asha", "mode": "promote", "grace_epochs": 2, "eta": 2}
    spec = make_spec(trials=4, scheduler=scheduler)
    run_one_by_one(tmp_path, spec, lambda params: 10 + params["scale"])
    first = explain(tmp_path, "toy-0000")
    assert (first.rungs[0].rank, first.rungs[0].of, first.rungs[0].keep) == (1, 1, False)  # alone, it waits for rivals
    assert first.rungs[0].rung_epoch == 2.0


def test_a_complete_trial_passed_every_rung_and_a_collapsed_one_names_its_guard(home: Path) -> None:
    found = explain(home, "toy:best")
    assert [(rung.rung_epoch, rung.keep) for rung in found.rungs] == [(2.0, True), (4.0, True)]
    assert f"{found.trial} was " in found.sentence
    assert f"; it ran to its end with {found.value:.2f} mm; " in found.sentence
    collapsed = next(trial for trial in trials_of(home) if trial.state == "COLLAPSED")
    assert "it was stopped by a guard (collapse: theta_var_ratio 0.0010 < 0.02" in explain(home, collapsed.id).sentence


def test_neighbours_are_those_of_the_nearest_parameters(home: Path) -> None:
    trials = trials_of(home)
    found = explain(home, trials[0].id)
    assert [each.distance for each in found.neighbours] == sorted(each.distance for each in found.neighbours)

    def distance(trial: Any) -> float:
        scale = math.log(trial.params["scale"] / trials[0].params["scale"]) / math.log(100)
        return math.hypot(scale, trial.params["noise_mm"] - trials[0].params["noise_mm"]) / math.sqrt(2)

    expected = sorted(trials[1:], key=distance)
    assert [each.trial for each in found.neighbours] == [trial.id for trial in expected[:5]]
    assert found.neighbours[0].distance == pytest.approx(distance(expected[0]))


def test_gradient_shares_are_those_of_the_first_and_the_last_evaluation(home: Path) -> None:
    shares = explain(home, "toy:best").gradient_shares
    assert shares["joint"] == (0.2, pytest.approx(0.9))
    assert list(shares) == ["joint", "param"]
    assert "the joint term made up 90% of its gradient at the end" in explain(home, "toy:best").sentence


def test_the_looked_up_configuration_is_what_was_trained(home: Path) -> None:
    [found] = look_up(home, "toy-0004")
    spec = SweepSpec.model_validate(open_study(home, "toy")[0].attributes.spec)
    assert configuration_of(found.spec, found.trial) == resolve(spec, found.trial.params)


def test_an_unknown_trial_is_reported_with_a_similar_one(home: Path) -> None:
    with pytest.raises(UserError, match="no trial `toy-oracl`") as caught:
        look_up(home, "toy-oracl")
    assert caught.value.problems[0].help == "`sweeper list` shows the studies, `sweeper show STUDY` the IDs"
    with pytest.raises(UserError) as caught:
        look_up(home, "toy-00023")
    assert caught.value.problems[0].help == "did you mean `toy-0023`?"
    with pytest.raises(UserError, match="no trial `toy:worst`"):
        look_up(home, "toy:worst")


def test_compare_shows_only_what_varies(home: Path) -> None:
    found = compare_trials(home, ["toy-0000", "toy-0004"])
    assert set(found.varying) == {"scale", "noise_mm"}
    assert found.varying["scale"][0] == 1.0
    assert found.curves[0][1.0] == pytest.approx(18.0)
    assert found.metrics[OBJECTIVE][0] == list(found.curves[0].values())[-1]
    with pytest.raises(UserError, match="at least two"):
        compare_trials(home, ["toy-0000"])
    assert varying_keys([{"a": 1, "b": [1]}, {"a": 1, "b": [2], "c": 3}]) == {"b": ([1], [2]), "c": (None, 3)}


def test_a_sparkline_has_a_bar_for_each_value_and_a_gap_for_each_nan() -> None:
    assert sparkline([0.0, 7.0, math.nan, 3.5], 0.0, 7.0) == "▁█ ▅"
    assert sparkline([2.0, 2.0], 2.0, 2.0) == "▁▁"


@pytest.mark.parametrize("evaluator", ["ped-anova", "mdi", "fanova"])
def test_the_parameter_that_matters_is_found_and_the_other_is_noise(home: Path, evaluator: Any) -> None:
    found = importances_of("toy", open_study(home, "toy")[1], trials_of(home), evaluator)
    assert found.epoch == 2.0  # pruned trials count, at the first rung
    assert next(iter(found.shares)) == "scale"
    assert found.shares["scale"] > 2 * found.noise
    assert sum(found.shares.values()) + found.noise == pytest.approx(1.0)
    assert found.warning == ""


def test_too_few_trials_give_a_warning(home: Path) -> None:
    spec = open_study(home, "toy")[1]
    few = importances_of("toy", spec, trials_of(home)[:5], "ped-anova")
    assert few.warning.startswith("5 trials are few for 2 parameters, about 20 are needed: ")
    assert NOISE in few.warning
    none = importances_of("toy", spec, [], "ped-anova")
    assert (none.shares, none.warning.split(";")[0]) == ({}, "0 trials say nothing about importance")


@pytest.mark.parametrize(
    "arguments",
    [["explain", "toy-0002"], ["compare", "toy:best", "toy-0002"], ["importance", "toy"]],
    ids=lambda a: a[0],
)
def test_the_verbs_print_for_people_and_for_scripts(
    home: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*arguments, "--home", str(home)]) == 0
    assert "toy" in capsys.readouterr().out
    assert cli.main([*arguments, "--home", str(home), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
