"""`replicate: auto`: the last trials are new seeds of what could still be best, and the study knows when it is done."""

import math
import random
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from studies import OBJECTIVE, make_spec, make_study, message

from sweeper.analysis.cost import estimate_cost
from sweeper.analysis.trial_lookup import configuration_of
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.lifecycle.winners import best_configurations, fresh_seeds
from sweeper.noise.replication import conclusion
from sweeper.study.controller import StudyController
from sweeper.study.pareto import winner_of
from sweeper.views.spec import describe

REPLICATE: dict[str, Any] = {
    "replicate": "auto",
    "trials": 20,
    "sampler": {"name": "random"},
    "scheduler": {"name": "none"},
    "base": {"epochs": 8, "seed": 40},
}
TWO = [{"metric": OBJECTIVE, "mode": "min"}, {"metric": "b", "mode": "min"}]


def outcome(config: dict[str, Any], noise_sd: float, slope: float) -> float:
    """The result of a trial: a valley over the logarithm of `scale`, plus what its seed adds."""
    drawn = random.Random(f"{config['scale']} {config['seed']}")
    return 20.0 + slope * abs(math.log10(config["scale"])) + drawn.gauss(0.0, noise_sd)


def finish(study: StudyController, most: int = 1_000, noise_sd: float = 0.05, slope: float = 3.0) -> list[int]:
    """Run the study, or at most `most` trials of it; returns their seeds."""
    seeds: list[int] = []
    while len(seeds) < most and (upcoming := study.next_trial()):
        seeds.append(upcoming.config["seed"])
        if study.on_report(upcoming.record.id, message(8, outcome(upcoming.config, noise_sd, slope))):
            study.on_end(upcoming.record.id)
    return seeds


def test_a_clear_best_ends_the_study_before_its_trials_are_used_up(tmp_path: Path) -> None:
    study = make_study(tmp_path, **REPLICATE)
    seeds = finish(study)
    assert seeds[:15] == [40] * 15
    assert 3 <= len(seeds[15:]) < 5, "three repeated runs measure the noise, and it is small"
    assert all(seed > 40 for seed in seeds[15:])
    assert study.is_done
    said = conclusion(study.spec, study.ledger.trials())
    assert said is not None
    assert said.endswith("; more seeds would change nothing")


def test_a_settled_study_says_that_pruned_trials_are_not_judged(tmp_path: Path) -> None:
    ranked = {"trials": 40, "scheduler": {"name": "asha", "grace_epochs": 4, "eta": 2}}
    study = make_study(tmp_path, **REPLICATE | ranked)
    while upcoming := study.next_trial():
        value = outcome(upcoming.config, 0.05, 3.0)
        if all(study.on_report(upcoming.record.id, message(epoch, value)) for epoch in (4, 8)):
            study.on_end(upcoming.record.id)
    trials = study.ledger.trials()
    pruned = sum(trial.state is TrialState.PRUNED for trial in trials)
    said = conclusion(study.spec, trials)
    assert pruned
    assert said is not None
    assert said.endswith(f"; more seeds would change nothing; the {pruned} that were pruned are not judged")


def test_a_study_that_cannot_tell_configurations_apart_uses_all_trials_and_says_so(tmp_path: Path) -> None:
    study = make_study(tmp_path, **REPLICATE, good_enough=0.01)
    assert len(finish(study, noise_sd=1.0, slope=0.2)) == 20
    assert study.is_done
    said = conclusion(study.spec, study.ledger.trials())
    assert said is not None
    assert " or 00" in said
    assert "not settled: one is within 0.01 mm of the best with probability" in said


def test_repeats_share_their_seeds_and_are_neither_ranked_nor_winners_by_luck(tmp_path: Path) -> None:
    study = make_study(tmp_path, **REPLICATE | {"scheduler": {"name": "asha", "grace_epochs": 2}}, good_enough=0.001)
    finish(study, noise_sd=0.5)
    trials = study.ledger.trials()
    again = [trial for trial in trials if trial.repeat]
    assert len(again) == 5
    assert {trial.state for trial in again} == {TrialState.COMPLETE}
    for trial in again:
        own = [other.repeat for other in trials if other.params == trial.params]
        assert own == list(range(len(own))), "each configuration has the same seeds in the same order"
        assert configuration_of(study.spec, trial)["seed"] == 40 + trial.repeat
    winner = winner_of(trials, study.spec.objective)
    assert winner is not None
    assert winner.repeat == 0
    assert sum(other.params == winner.params for other in trials) > 1
    assert best_configurations(study.spec, trials, 1) == [winner]
    assert min(fresh_seeds(study.spec, trials, 2, ())) > max(40 + trial.repeat for trial in again)


@pytest.mark.parametrize("cut", [3, 16])
def test_an_interrupted_study_repeats_what_an_uninterrupted_one_does(tmp_path: Path, cut: int) -> None:
    def tried(folder: Path, *parts: int) -> list[tuple[Any, int]]:
        folder.mkdir()
        for most in parts:
            study = make_study(folder, **REPLICATE, good_enough=0.001)
            finish(study, most, noise_sd=0.3)
            study.close()
            study.ledger.close()
        return [(dict(trial.params), trial.repeat) for trial in make_study(folder, **REPLICATE).ledger.trials()]

    assert tried(tmp_path / "broken", cut, 1_000) == tried(tmp_path / "whole", 1_000)


def test_a_repeat_that_was_running_is_handed_out_again_with_its_seed(tmp_path: Path) -> None:
    study = make_study(tmp_path, **REPLICATE)
    finish(study, 15)
    upcoming = study.next_trial()
    assert upcoming is not None
    assert upcoming.record.repeat == 1
    assert study.may_come_again, "what it comes to may ask for more"
    study.close()
    study.ledger.close()
    again = make_study(tmp_path, **REPLICATE).next_trial()
    assert again is not None
    assert (again.record.id, again.config["seed"]) == (upcoming.record.id, 41)


def test_a_repeat_that_fails_keeps_its_seed_when_it_is_tried_again(tmp_path: Path) -> None:
    study = make_study(tmp_path, **REPLICATE)
    finish(study, 15)
    upcoming = study.next_trial()
    assert upcoming is not None
    study.on_error(upcoming.record.id, "disk full")
    retried = study.ledger.add_retry(study.ledger.trial(upcoming.record.id), study.spec)
    study.ledger.close()
    stored = make_study(tmp_path, **REPLICATE).ledger.trial(retried.id)
    assert (stored.repeat, stored.retry_of) == (1, upcoming.record.id)


def test_a_small_space_that_is_exhausted_gives_the_rest_to_seeds(tmp_path: Path) -> None:
    space = {"scale": {"choices": [0.1, 0.3, 1.0, 3.0, 10.0, 0.9]}}
    study = make_study(tmp_path, **REPLICATE, search_space=space)
    seeds = finish(study)
    assert seeds[:6] == [40] * 6
    assert min(seeds[6:]) > 40
    assert study.is_done


def test_the_search_continues_while_too_few_trials_have_run_to_their_end(tmp_path: Path) -> None:
    study = make_study(tmp_path, **REPLICATE)
    while upcoming := study.next_trial():
        for epoch in (1, 2, 3):
            if not study.on_report(upcoming.record.id, message(epoch, 40.0, ratio=0.001)):
                break
    trials = study.ledger.trials()
    assert [trial.state for trial in trials] == [TrialState.COLLAPSED] * 20
    assert not any(trial.repeat for trial in trials)


def test_an_extended_study_searches_further_before_it_repeats(tmp_path: Path) -> None:
    first = make_study(tmp_path, **REPLICATE)
    before = len(finish(first))
    first.close()
    first.ledger.close()
    study = make_study(tmp_path, **REPLICATE | {"trials": 40})
    assert not study.is_done
    seeds = finish(study)
    assert seeds[:15] == [40] * 15, "30 of the 40 are new configurations, and 15 were tried"
    assert all(seed > 40 for seed in seeds[15:])
    assert before + len(seeds) <= 40
    assert study.is_done


def test_concurrent_trials_are_given_different_work(tmp_path: Path) -> None:
    study = make_study(tmp_path, **REPLICATE, good_enough=0.001)
    finish(study, 15, noise_sd=0.5, slope=0.1)
    handed: list[TrialRecord] = []
    for _ in range(4):
        upcoming = study.next_trial()
        assert upcoming is not None
        handed.append(upcoming.record)
    assert len({(str(record.params), record.repeat) for record in handed}) == 4


def test_plan_and_check_count_the_repeats() -> None:
    spec = make_spec(**REPLICATE | {"scheduler": {"name": "asha", "grace_epochs": 2}})
    assert "the last 5 trials are new seeds, until a configuration is within 0.20 mm of the best" in describe(spec)
    plan = estimate_cost(spec, 8.0, None, 10**12)
    assert plan.rungs[8.0] == pytest.approx(15 / 4 + 5)
    assert plan.rungs[2.0] == 20


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"replicate": None, "good_enough": 0.2}, "`good_enough` belongs to `replicate: auto`"),
        ({"search_space": {"seed": {"choices": [1, 2]}}}, "take `seed` out of `search_space`"),
        ({"objective": {"metric": "val/accuracy", "mode": "max"}}, "needs `good_enough`"),
        ({"objective": TWO}, "needs one objective"),
        ({"sampler": {"name": "grid"}, "search_space": {"scale": {"choices": [1, 2]}}}, "for variants or a grid"),
        ({"good_enough": 0.0}, "greater than 0"),
        ({"replicate": "always"}, "'auto'"),
    ],
)
def test_a_spec_that_cannot_be_replicated_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        make_spec(**{"replicate": "auto"} | changes)
