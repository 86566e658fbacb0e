"""Which changed spec a study continues with by itself, and that its ledger then holds both."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from finished import finish_study
from postgres_server import PostgresServer

from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.storage.location import JOURNAL
from sweeper.ledger.trial import TrialState
from sweeper.reproducibility.growth import additions, refuse_unfit_space
from sweeper.spec.resolve import SweepSpec

SPACE = {"scale": {"choices": [1.0, 2.0]}, "shift": {"low": 0.0, "high": 1.0}}


def make(**changes: Any) -> SweepSpec:
    data = {
        "name": "grown",
        "trainer": "proposals:train",
        "objective": {"metric": "val/pa_mpjpe_mm", "mode": "min"},
        "controls": [],
    }
    return SweepSpec.model_validate(data | changes)


def variants(*names: str, **changes: Any) -> SweepSpec:
    return make(variants={name: {"scale": float(index)} for index, name in enumerate(names, 1)}, **changes)


def finished(home: Path, spec: SweepSpec, trials: int | None = None) -> Ledger:
    return finish_study(home, spec, lambda params: 5.0, trials)


def test_a_variant_in_the_middle_and_another_seed_are_the_next_trials(tmp_path: Path) -> None:
    first = make(variants={"a": {"scale": 1.0}, "c": {"scale": 3.0}}, seeds=[0, 1])
    grown = make(variants={"a": {"scale": 1.0}, "b": {"scale": 2.0}, "c": {"scale": 3.0}}, seeds=[0, 1, 5])
    ledger = finished(tmp_path, first)
    assert additions(ledger, grown) == ["variant: with `b`", "seed: with 5", "trials: 4 -> 9"]
    ledger.follow_lists(grown)
    asked = [ledger.ask(grown).params for _ in range(5)]
    assert [(one["variant"], one["seed"]) for one in asked] == [("a", 5), ("b", 0), ("b", 1), ("b", 5), ("c", 5)]
    reopened = Ledger.open(tmp_path / "studies" / "grown", "grown")
    assert [trial.params["variant"] for trial in reopened.trials()] == ["a", "a", "c", "c", "a", "b", "b", "b", "c"]


@pytest.mark.parametrize("in_database", [False, True])
@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", "cmaes"])
def test_a_choice_can_be_added_before_the_others_with_every_sampler(
    tmp_path: Path, sampler: str, in_database: bool
) -> None:
    options = {"tpe": {"startup_trials": 3}, "nsga2": {"population": 3}}.get(sampler, {})
    known = {"search_space": SPACE, "trials": 6, "sampler": {"name": sampler} | options}
    before, grown = make(**known), make(**known | {"search_space": SPACE | {"scale": {"choices": [None, 1.0, 2.0]}}})
    folder = tmp_path / "studies" / "grown"
    folder.mkdir(parents=True)
    url = f"sqlite:///{tmp_path}/ledger.db" if in_database else None
    ledger = Ledger.create(folder, "grown", url=url)
    ledger.attributes.spec = before.effective
    for _ in range(6):
        ledger.finish(ledger.ask(before).id, TrialState.COMPLETE, "", {}, (1.0,))
    tried = [dict(trial.params) for trial in ledger.trials()]
    assert additions(ledger, grown) == ["scale: with nothing"]
    ledger.follow_lists(grown)
    later = []
    for _ in range(12):
        later.append(ledger.ask(grown))
        ledger.finish(later[-1].id, TrialState.COMPLETE, "", {}, (1.0,))
    assert {trial.params["scale"] for trial in later} >= {None}, "the new value is proposed too"
    ledger.close()
    read = Ledger.open(folder, "grown", url=url).trials()
    assert [dict(trial.params) for trial in read] == tried + [dict(trial.params) for trial in later]


def test_optuna_itself_reads_a_journal_whose_lists_have_grown(tmp_path: Path) -> None:
    ledger = finished(tmp_path, variants("a", "b"))
    grown = variants("a", "b", "c")
    ledger.follow_lists(grown)
    ledger.ask(grown)
    backend = optuna.storages.journal.JournalFileBackend(str(ledger.study_dir / JOURNAL))
    study = optuna.load_study(study_name="grown", storage=optuna.storages.JournalStorage(backend))
    assert [trial.params["variant"] for trial in study.trials] == ["a", "b", "c"]
    assert {trial.distributions["variant"].choices for trial in study.trials} == {("a", "b", "c")}  # type: ignore[attr-defined]


def test_a_retried_variant_does_not_hide_added_ones(tmp_path: Path) -> None:
    ledger = finish_study(
        tmp_path, variants("a", "b"), lambda params: TrialState.FAILED if params["variant"] == "a" else 1.0
    )
    ledger.add_retry(ledger.trial("grown-0000"), variants("a", "b"))
    grown = variants("a", "b", "c", "d")
    assert additions(ledger, grown) == ["variant: with `c`, `d`", "trials: 2 -> 4"]
    ledger.follow_lists(grown)
    assert [ledger.ask(grown).params["variant"] for _ in range(2)] == ["c", "d"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trials": 9}, ["trials: 6 -> 9"]),
        ({"trials": 3}, None),
        ({"search_space": {"shift": SPACE["shift"], "scale": SPACE["scale"]}}, None),
        ({"search_space": SPACE | {"shift": {"low": 0.0, "high": 2.0}}}, None),
        ({"search_space": SPACE | {"scale": {"choices": [1.0]}}}, None),
        ({"search_space": {"scale": SPACE["scale"]}}, None),
        ({"search_space": SPACE | {"scale": {"low": 1.0, "high": 2.0}}}, None),
        ({"base": {"epochs": 7}}, None),
        ({"enqueue": [{"scale": 1.0, "shift": 0.5}]}, ["enqueue: with `scale=1.0 shift=0.5`"]),
    ],
)
def test_only_what_no_trial_has_tried_may_change(
    tmp_path: Path, changes: dict[str, Any], told: list[str] | None
) -> None:
    known = {"search_space": SPACE, "trials": 6, "sampler": {"name": "random"}}
    ledger = finished(tmp_path, make(**known))
    assert {trial.params["scale"] for trial in ledger.trials()} == {1.0, 2.0}
    assert additions(ledger, make(**known | changes)) == told


def test_a_variant_that_was_tried_stays_and_one_that_was_not_may_change(tmp_path: Path) -> None:
    ledger = finished(tmp_path, variants("a", "b", "c"), trials=2)
    changed = {"a": {"scale": 1.0}, "b": {"scale": 2.0}}
    assert additions(ledger, make(variants=changed | {"d": {"scale": 7.0}})) == ["variant: with `d`, without `c`"]
    assert additions(ledger, make(variants=changed | {"c": {"scale": 7.0}})) == []
    assert additions(ledger, make(variants=changed | {"b": {"scale": 7.0}, "c": {"scale": 3.0}})) is None
    lost = make(variants={"a": {"scale": 1.0}, "c": {"scale": 3.0}})
    with pytest.raises(UserError, match="`variant` of the study `grown` can no longer be `b`, which grown-0001 has"):
        refuse_unfit_space(ledger, lost)


def test_a_study_whose_lists_shrink_again_continues(tmp_path: Path) -> None:
    ledger = finished(tmp_path, variants("a", "b"))
    ledger.follow_lists(variants("a", "b", "c"))
    smaller = variants("a", "b", "d")
    ledger.follow_lists(smaller)
    assert ledger.ask(smaller).params == {"variant": "d"}


@pytest.mark.slow
def test_a_variant_is_added_to_a_ledger_in_postgresql(tmp_path: Path, postgres_server: PostgresServer) -> None:
    folder, url, grown = tmp_path / "studies" / "grown", postgres_server.url(), variants("a", "new", "b")
    folder.mkdir(parents=True)
    ledger = Ledger.create(folder, "grown", url=url)
    for spec in (variants("a", "b"), variants("a", "b"), grown):
        ledger.follow_lists(spec)
        ledger.finish(ledger.ask(spec).id, TrialState.COMPLETE, "", {}, (1.0,))
    assert [trial.params["variant"] for trial in ledger.trials()] == ["a", "b", "new"]
    ledger.close()
    read = Ledger.open(folder, "grown", url=url).trials()
    assert [trial.params["variant"] for trial in read] == ["a", "b", "new"]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_added_known_configurations_come_next(tmp_path: Path, sampler: str) -> None:
    known = {"search_space": SPACE, "trials": 4, "sampler": {"name": sampler}}
    first, added = {"scale": 2.0, "shift": 0.25}, [{"shift": 0.75}, {"scale": 1.0, "shift": 0.125}]
    ledger = finished(tmp_path, make(**known, enqueue=[first]))
    more = make(**known, enqueue=[first, *added])
    assert additions(ledger, more) == ["enqueue: with `shift=0.75`, `scale=1.0 shift=0.125`"]
    asked = [dict(ledger.ask(more).params) for _ in range(3)]
    assert asked[0].items() >= added[0].items()
    assert asked[1] == added[1]
    assert asked[2]["shift"] not in (0.25, 0.75, 0.125), "each comes once"
    assert dict(ledger.trials()[0].params) == first
