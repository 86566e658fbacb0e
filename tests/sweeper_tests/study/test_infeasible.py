"""Proposals that the trainer's config refuses, and search spaces with nothing left to try."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from pydantic import BaseModel, model_validator
from studies import Log, make_spec, make_study, message

from mano_trainers.report import EpochReport
from sweeper.analysis.cost import estimate_cost, plan_study
from sweeper.errors import SpecError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialState
from sweeper.spec.resolve import accepted_example, resolve
from sweeper.spec.validation.feasibility import feasibility, feasibility_lines, refusal
from sweeper.study.controller import StudyController

EPOCHS = {"epochs": {"choices": [0, 2, 8]}}  # the config wants 1 or more


def run_all(study: StudyController) -> list[dict[str, Any]]:
    configs = []
    while upcoming := study.next_trial():
        configs.append(upcoming.config)
        study.on_report(upcoming.record.id, message(8, float(upcoming.config["epochs"])))
        study.on_end(upcoming.record.id)
    return configs


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsga2"])
def test_what_the_config_refuses_is_drawn_again(sampler: str, tmp_path: Path) -> None:
    space = EPOCHS | {"scale": {"low": 0.1, "high": 10.0}}
    study = make_study(tmp_path, search_space=space, sampler={"name": sampler}, trials=12)
    configs = run_all(study)
    assert len(configs) == 12
    assert {config["epochs"] for config in configs} == {2, 8}
    assert all(trial.state is TrialState.COMPLETE for trial in study.ledger.trials())


def test_a_refused_enqueued_configuration_is_recorded_and_the_study_continues(tmp_path: Path) -> None:
    log = Log()
    study = make_study(
        tmp_path, log, search_space=EPOCHS | {"scale": {"low": 0.1, "high": 10.0}}, enqueue=[{"epochs": 0}]
    )
    assert len(run_all(study)) == 3
    first = study.ledger.trial("toy-0000")
    assert first.state is TrialState.INFEASIBLE
    assert first.reason == "the trainer's config rejects it: epochs: expected a number >= 1 but got 0"
    assert first.reports == ()
    assert log.events[:2] == [("started", "toy-0000 from 0"), ("finished", "toy-0000 INFEASIBLE")]
    assert study.is_done
    reopened = Ledger.open(tmp_path, "toy")
    assert reopened.trial("toy-0000").state is TrialState.INFEASIBLE


def test_a_refused_trial_that_a_killed_driver_left_ends_as_infeasible(tmp_path: Path) -> None:
    study = make_study(tmp_path, search_space=EPOCHS, enqueue=[{"epochs": 0}], trials=1)
    study.ledger.ask(study.spec)  # and the driver is killed
    again = make_study(tmp_path, search_space=EPOCHS, enqueue=[{"epochs": 0}], trials=1)
    assert again.next_trial() is None
    assert again.ledger.trial("toy-0000").state is TrialState.INFEASIBLE
    assert again.is_done


def test_the_sampler_is_told_that_a_refused_trial_violates_a_constraint(tmp_path: Path) -> None:
    study = make_study(tmp_path, search_space=EPOCHS, enqueue=[{"epochs": 0}], trials=1)
    run_all(study)
    [frozen] = study.ledger._optuna.frozen_trials()
    assert frozen.constraints == {"infeasible": 1.0}


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp", "nsga2"])
def test_no_configuration_is_tried_twice_and_the_study_ends_when_none_is_left(sampler: str, tmp_path: Path) -> None:
    space = EPOCHS | {"name": {"choices": ["a", "b", "c"]}}
    study = make_study(tmp_path, search_space=space, sampler={"name": sampler}, trials=20)
    tried = [(config["epochs"], config["name"]) for config in run_all(study)]
    assert sorted(tried) == [(epochs, name) for epochs in (2, 8) for name in "abc"]
    assert study.to_come.is_exhausted
    assert study.is_done


def test_trials_with_their_own_seeds_are_not_repetitions(tmp_path: Path) -> None:
    study = make_study(tmp_path, search_space={"epochs": {"choices": [2, 8]}}, trials=5, replicate_seed="per_trial")
    assert len(run_all(study)) == 5


def test_an_enqueued_repetition_is_run_as_the_user_asked(tmp_path: Path) -> None:
    entry = {"epochs": 2, "scale": 1.0}
    space = EPOCHS | {"scale": {"low": 0.1, "high": 10.0}}
    study = make_study(tmp_path, search_space=space, enqueue=[entry, entry], trials=2)
    assert [config["epochs"] for config in run_all(study)] == [2, 2]


ONE_OF_SIX = {"epochs": 2, "scale": 1.0}


@pytest.mark.parametrize(
    ("enqueue", "trials"),
    [
        ([], 6),
        ([ONE_OF_SIX], 6),
        ([ONE_OF_SIX, ONE_OF_SIX], 7),
        ([{"scale": 1.0}, {"scale": 1.0}, {"scale": 1.0}], 6),
        ([{"scale": 1.0}] * 4, 7),
        ([ONE_OF_SIX, {"epochs": 2}, {"epochs": 2}, ONE_OF_SIX], 8),
    ],
)
def test_a_plan_counts_the_trials_that_an_exhausted_space_gets(
    enqueue: list[dict[str, Any]], trials: int, tmp_path: Path
) -> None:
    space = {"epochs": {"choices": [2, 4, 8]}, "scale": {"choices": [1.0, 2.0]}}
    study = make_study(tmp_path, search_space=space, enqueue=enqueue, trials=20, scheduler={"name": "none"})
    planned = plan_study(study.spec, tmp_path)
    assert planned.trials == len(run_all(study)) == trials
    assert f"ends after {trials} of its 20 trials" in planned.space[0]


def test_new_seeds_are_planned_where_a_space_is_exhausted() -> None:
    more = {"replicate": "auto", "good_enough": 0.1, "trials": 20, "scheduler": {"name": "asha", "grace_epochs": 2}}
    spec = make_spec(search_space={"epochs": {"choices": [2, 8]}}, **more)
    planned = estimate_cost(spec, 8.0, None, 2**40, configurations=2)
    assert (planned.trials, planned.rungs[8.0]) == (20, 18 + 1)
    assert "what is left of its 20 trials are new seeds" in feasibility_lines(spec, feasibility(spec))[0]


class Heads(BaseModel):
    """Fields that may not go together: the lower ends of CROSSED do not."""

    hidden: int = 64
    heads: int = 4
    epochs: int = 2

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.hidden % self.heads:
            raise ValueError("hidden is not divisible by heads")
        return self


def train_heads(config: Heads, workdir: Path, resume: Path | None = None) -> Iterator[EpochReport]:
    raise NotImplementedError


CROSSED = {"hidden": {"type": "int", "low": 9, "high": 64}, "heads": {"choices": [2, 4, 8]}}


def test_a_space_refused_at_its_lower_ends_is_sound_and_its_refused_share_is_reported() -> None:
    spec = make_spec(search_space=CROSSED, trainer=f"{__name__}:train_heads", base={})
    found = feasibility(spec)
    assert (found.points, found.listed) == (56 * 3, True)
    assert found.accepted == sum(hidden % heads == 0 for hidden in range(9, 65) for heads in (2, 4, 8))
    assert refusal(spec, accepted_example(spec)) is None
    assert set(spec.effective["base"]) == {"epochs"}
    [line, exhausted] = feasibility_lines(spec.model_copy(update={"trials": 60}), found)
    refused = found.points - found.accepted
    assert line == (
        f"  infeasible  {refused / 168:.1%} of all 168 points are rejected by the trainer's config, "
        f"{refused} of them for: hidden is not divisible by heads"
    )
    assert exhausted.startswith(f"  exhausted   the space has {found.accepted} configurations: the study ends")


def test_a_large_space_is_always_sampled_at_the_same_points() -> None:
    wide = CROSSED | {"epochs": {"type": "int", "low": 1, "high": 50}}
    spec = make_spec(search_space=wide, trainer=f"{__name__}:train_heads", base={})
    found = feasibility(spec)
    assert (found.points, found.listed) == (1000, False)
    assert found == feasibility(spec)
    assert abs(found.share_refused - (1 - 49 / 168)) < 0.05


def test_the_reason_for_a_refusal_names_the_field_if_there_is_one() -> None:
    spec = make_spec(search_space=CROSSED, trainer=f"{__name__}:train_heads", base={})
    assert refusal(spec, {"hidden": 9, "heads": 2}) == "hidden is not divisible by heads"
    assert refusal(spec, {"hidden": 0.5, "heads": 2}) == "hidden: expected a whole number but got 0.5"
    with pytest.raises(SpecError) as error:
        resolve(spec, {"hidden": 9, "heads": 2})
    assert error.value.problems[0].where == "toy base"
