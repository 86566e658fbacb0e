"""The second round: fresh seeds for the best configurations, and what can be said about them afterwards."""

import json
import math
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty import sweep
from finished import finish_study
from mlflow_helpers import uri_of

from sweeper.analysis.replicates import VariantRuns, compare
from sweeper.analysis.statistics import detectable_effect
from sweeper.analysis.winners import ENDING, WinnersResult, rounds_of, winner_of_comparisons, winners_result
from sweeper.errors import UserError
from sweeper.ledger.studies import open_study
from sweeper.ledger.trial import TrialState
from sweeper.lifecycle.winners import winners_spec
from sweeper.spec.load import parse_spec
from sweeper.spec.objective import Objective
from sweeper.spec.resolve import SweepSpec, resolve
from sweeper.spec.sections import Budget
from sweeper.tracking.store.client import open_client

SOURCE = {
    "name": "toy",
    "trainer": "scripted_trainer:train",
    "base": {"epochs": 2, "seed": 4},
    "search_space": {"scale": {"low": 0.5, "high": 10.0, "log": True}},
    "objective": {"metric": "val/pa_mpjpe_mm", "mode": "min"},
    "trials": 6,
    "controls": [],
}


def second_round(home: Path, top: int = 3, seeds: int = 5, **changes: Any) -> SweepSpec:
    """The spec of the second round of a finished study in which a smaller scale is better."""
    ledger = finish_study(home, SweepSpec.model_validate(SOURCE | changes), lambda params: 10.0 * params["scale"])
    _, recorded = open_study(home, "toy")
    return parse_spec(winners_spec(f"toy{ENDING}", recorded, ledger.trials(), top, seeds), home / "w.yaml")


def test_the_best_configurations_become_variants_with_fresh_seeds_and_the_same_guards(tmp_path: Path) -> None:
    spec = second_round(tmp_path, budget={"cpu_seconds": 900.0, "trials": 6}, guards=[])
    _, recorded = open_study(tmp_path, "toy")
    ranked = sorted(open_study(tmp_path, "toy")[0].trials(), key=lambda trial: trial.params["scale"])
    assert list(spec.variants) == [trial.id for trial in ranked[:3]]
    assert spec.seeds == (5, 6, 7, 8, 9)
    assert (spec.name, spec.trials, spec.scheduler.name) == (f"toy{ENDING}", 15, "none")
    assert spec.guards == recorded.guards == ()
    assert spec.budget == Budget(cpu_seconds=900.0)  # the limit on trials was for the search
    config = resolve(spec, {"variant": ranked[0].id, "seed": 7})
    assert config == resolve(SweepSpec.model_validate(SOURCE), ranked[0].params) | {"seed": 7}


def test_trials_that_differ_only_in_their_seed_are_one_configuration(tmp_path: Path) -> None:
    variants = {"a": {"scale": 1.0}, "b": {"scale": 2.0}, "c": {"scale": 3.0}}
    source = {key: value for key, value in SOURCE.items() if key not in ("search_space", "trials")}
    source |= {"variants": variants, "seeds": [0, 3], "base": {"epochs": 2, "data_file": "x"}}
    ledger = finish_study(
        tmp_path, SweepSpec.model_validate(source), lambda params: ord(params["variant"]) + params["seed"] / 10
    )
    _, recorded = open_study(tmp_path, "toy")
    spec = parse_spec(winners_spec(f"toy{ENDING}", recorded, ledger.trials(), 2, 3), tmp_path / "w.yaml")
    assert list(spec.variants) == ["toy-0000", "toy-0002"]
    assert list(spec.variants.values()) == [{"scale": 1.0}, {"scale": 2.0}]
    assert (spec.base["epochs"], spec.base["data_file"]) == (2, "x")  # shared by all: the controls' data too
    assert spec.seeds == (4, 5, 6)
    with pytest.raises(UserError, match="3 configurations of the study `toy` ran to their end, so there is no top 4"):
        winners_spec(f"toy{ENDING}", recorded, ledger.trials(), 4, 3)


def result_of(home: Path, means: list[float], noise: float, lost: dict[int, TrialState] | None = None) -> WinnersResult:
    """The result of a second round in which variant i has the i-th mean, and every run has its own noise."""
    spec = second_round(home)
    order, random = list(spec.variants), np.random.default_rng(0)
    shared = dict(zip(spec.seeds, random.normal(0.0, 1.0, 5).tolist(), strict=True))

    def score(params: Any) -> float | TrialState:
        index = order.index(params["variant"])
        value = means[index] + shared[params["seed"]] + float(random.normal(0.0, noise))
        return lost[index] if lost and index in lost and params["seed"] == spec.seeds[0] else value

    finish_study(home, spec, score)
    return winners_result(home, "toy", f"toy{ENDING}")


def test_a_configuration_that_beats_all_others_wins_in_words(tmp_path: Path) -> None:
    result = result_of(tmp_path, [12.0, 11.0, 13.0], noise=0.05)
    second = result.candidates[0].trial
    assert result.winner == second
    assert [round(each.runs.estimate.mean - 11, 0) for each in result.candidates] == [0.0, 1.0, 2.0]
    assert result.verdict[0].startswith(f"{second} beats {result.candidates[1].trial} by ")
    assert " mm [" in result.verdict[0]
    assert "p < 0.001, 5 seeds" in result.verdict[1]


def test_configurations_within_their_noise_are_not_told_apart(tmp_path: Path) -> None:
    result = result_of(tmp_path, [12.0, 12.0, 12.1], noise=0.5)
    assert result.winner is None
    assert result.verdict[0] == "the top 3 cannot be told apart with 5 seeds"
    smallest = result.power.spread * detectable_effect(5, 3)
    assert result.power.corrected == pytest.approx(smallest)
    assert result.opening[0].startswith("power: 5 seeds show differences of ")
    assert f"{smallest:.2f} mm after correction for 3 comparisons; paired differences" in result.opening[0]
    assert "(measured here, 12 degrees of freedom)" in result.opening[0]
    assert result.opening[1].startswith("runs are always paired by seed; correlation ")


def test_collapsed_runs_are_counted_and_cost_a_configuration_the_win(tmp_path: Path) -> None:
    result = result_of(tmp_path, [12.0, 11.0, 13.0], noise=0.05, lost={1: TrialState.COLLAPSED, 2: TrialState.FAILED})
    best = result.candidates[0]
    assert (best.runs.collapsed, best.runs.estimate.n, result.winner) == (1, 4, None)
    assert f"{best.trial}: 1 collapsed (4-62 %) of 5 runs" in result.verdict
    assert f"{result.candidates[2].trial}: 1 failed of 5 runs" in result.verdict


def test_the_fresh_mean_is_shown_next_to_the_value_that_selected_it(tmp_path: Path) -> None:
    result = result_of(tmp_path, [12.0, 11.0, 13.0], noise=0.05)
    ledger, _ = open_study(tmp_path, "toy")
    values = {trial.id: 10.0 * trial.params["scale"] for trial in ledger.trials()}
    assert {each.trial: each.selected for each in result.candidates} == {
        each.trial: pytest.approx(values[each.trial]) for each in result.candidates
    }
    assert not any(math.isnan(each.selected) for each in result.candidates)


def test_another_round_gets_new_seeds(tmp_path: Path) -> None:
    finish_study(tmp_path, second_round(tmp_path), lambda params: 10.0)
    assert rounds_of(tmp_path, "toy") == [f"toy{ENDING}"]
    ledger, recorded = open_study(tmp_path, "toy")
    _, first = open_study(tmp_path, f"toy{ENDING}")
    text = winners_spec(f"toy{ENDING}-2", recorded, ledger.trials(), 2, 3, first.seeds)
    assert parse_spec(text, tmp_path / "w.yaml").seeds == (10, 11, 12)


def test_among_equal_configurations_one_is_called_a_winner_in_at_most_5_percent_of_studies() -> None:
    random = np.random.default_rng(2)
    objective = Objective(metric="val/pa_mpjpe_mm", mode="min")
    studies, different, winners = 2000, 0, 0
    for _ in range(studies):
        shared = random.normal(0.0, 1.0, 5)
        runs = [
            VariantRuns(name, dict(enumerate((shared + random.normal(0.0, 0.5, 5)).tolist())), 5, 0, 0, 0, 0)
            for name in "abc"
        ]
        runs.sort(key=lambda each: each.estimate.mean)
        comparisons = compare(list(combinations(runs, 2)))
        different += any(each.is_told_apart for each in comparisons)
        winners += winner_of_comparisons(runs[0], comparisons, objective) is not None
    assert 0.005 < different / studies <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / studies)
    assert 0 < winners <= different


@pytest.mark.slow
def test_the_second_round_runs_like_any_study_and_can_be_continued(tmp_path: Path, template_db: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(template_db, home / "mlflow.db")
    noisy = SOURCE | {"base": {"epochs": 2, "noise": True, "noise_mm": 0.01}}
    finish_study(home, SweepSpec.model_validate(noisy), lambda params: 10.0 * params["scale"])
    arguments = ("winners", "toy", "--top", "2", "--seeds", "3", "--json", "--promote")
    killed = sweep(home, *arguments, KILL_WRITE="40:after")
    assert killed.returncode == -9
    ended = sweep(home, *arguments)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert [candidate["runs"]["runs"] for candidate in result["candidates"]] == [3, 3]
    ledger, _ = open_study(home, f"toy{ENDING}")
    assert [trial.state for trial in ledger.trials()] == [TrialState.COMPLETE] * 6
    best, second = (candidate["trial"] for candidate in result["candidates"])
    assert result["winner"] == best
    assert result["verdict"][0].startswith(f"{best} beats {second} by ")
    version = open_client(uri_of(home)).get_model_version_by_alias(f"toy{ENDING}", "winner")
    assert version.tags["sweeper.trial_id"] == result["best_run"]
    assert f"promoted {result['best_run']}, epoch_002: version 1 of toy{ENDING}" in ended.stderr
    tied = sweep(home, "winners", "toy", "--top", "2", "--seeds", "2", "--new", "--promote")
    assert tied.returncode == 3
    assert "nothing is promoted: no configuration beats all the others" in tied.stderr
