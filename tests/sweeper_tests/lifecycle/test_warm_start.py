"""A study that learns from an earlier one."""

import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from proposals import METRIC, make_spec
from pydantic import ValidationError

from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger, Report, TrialState
from sweeper.lifecycle.warm_start import record_warm_start
from sweeper.spec.resolve import SweepSpec

SPACE = {"x": {"low": 0.0, "high": 1.0}, "y": {"low": 0.0, "high": 1.0}}


def open_ledger(home: Path, study: str) -> Ledger:
    (home / study).mkdir(parents=True, exist_ok=True)
    return Ledger.create(home / study, study)


def run_one(ledger: Ledger, spec: SweepSpec) -> dict[str, Any]:
    record = ledger.ask(spec)
    x, y = float(record.params.get("x", 0.5)), float(record.params.get("y", 0.5))
    value = (x - 0.2) ** 2 + (y - 0.8) ** 2
    ledger.report(record.id, Report(1, 1.0, {METRIC: value}, None, 1), value)
    state = TrialState.COLLAPSED if x > 0.9 else TrialState.PRUNED if value > 0.5 else TrialState.COMPLETE
    ledger.finish(record.id, state, "", {}, (value,))
    return dict(record.params)


def warm_spec(trials: str = "all", sampler: str = "tpe", **changes: Any) -> SweepSpec:
    data: dict[str, Any] = {"search_space": SPACE, "warm_start": {"study": "early", "trials": trials}}
    return make_spec(sampler, **(data | changes))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a finished study of 25 trials."""
    early = open_ledger(tmp_path, "early")
    for _ in range(25):
        run_one(early, make_spec("random", search_space=SPACE))
    return tmp_path


def started(home: Path, name: str, spec: SweepSpec) -> Ledger:
    ledger = open_ledger(home, name)
    record_warm_start(ledger, spec)
    return ledger


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_the_first_trials_are_better_informed_than_chance(home: Path, sampler: str) -> None:
    """Over several seeds: no trial repeats another, so ten of one seed say little about a sampler that breeds."""

    def mean_loss(params: list[dict[str, Any]]) -> float:
        return sum((one["x"] - 0.2) ** 2 + (one["y"] - 0.8) ** 2 for one in params) / len(params)

    tried, cold = [], []
    for seed in range(50, 54):
        spec = warm_spec(sampler=sampler, seed=seed)
        ledger = started(home, f"late-{seed}", spec)
        assert ledger.trials() == []
        tried += [run_one(ledger, spec) for _ in range(10)]
        assert len(ledger.trials()) == 10
        chance = make_spec("random", search_space=SPACE, seed=seed)
        cold += [run_one(open_ledger(home, f"cold-{seed}"), chance) for _ in range(10)]
    assert mean_loss(tried) < 0.8 * mean_loss(cold)


def test_its_proposals_do_not_change_when_the_earlier_study_is_gone(home: Path) -> None:
    spec = warm_spec("best 5")
    whole = started(home, "whole", spec)
    pieces = started(home, "pieces", spec)
    assert run_one(whole, spec) == run_one(pieces, spec)
    shutil.rmtree(home / "early")
    assert [run_one(whole, spec) for _ in range(3)] == [run_one(started(home, "pieces", spec), spec) for _ in range(3)]


def test_best_n_are_the_n_best_that_ran_to_their_end(home: Path) -> None:
    ledger = started(home, "late", warm_spec("best 3"))
    entries = ledger.attributes.warm_start
    values = sorted(
        trial.last.metrics[METRIC]
        for trial in Ledger.open(home / "early", "early").trials()
        if trial.state is TrialState.COMPLETE and trial.last
    )
    assert [entry["values"] for entry in entries] == [[value] for value in values[:3]]


def test_only_what_both_spaces_have_is_learned(home: Path) -> None:
    spec = warm_spec(search_space={"y": {"low": 0.5, "high": 1.0}, "z": {"choices": ["a", "b"]}})
    ledger = started(home, "late", spec)
    tried = [run_one(ledger, spec) for _ in range(8)]
    assert all(0.5 <= params["y"] <= 1.0 for params in tried)
    assert all(set(params) == {"y", "z"} for params in tried)


def test_a_study_that_is_missing_or_measures_something_else_is_refused(home: Path) -> None:
    missing = warm_spec().model_copy(update={"warm_start": warm_spec().warm_start.model_copy(update={"study": "none"})})  # type: ignore[union-attr]
    with pytest.raises(UserError, match="no study `none`"):
        started(home, "late", missing)
    other = warm_spec(objective={"metric": "val/auc", "mode": "max"})
    with pytest.raises(UserError, match="no finished trial of the study `early` reports val/auc"):
        started(home, "late", other)


@pytest.fixture
def storage(tmp_path: Path) -> str:
    """The URL of an Optuna storage with a study of 25 trials from another program, and an empty study."""
    url = f"sqlite:///{tmp_path / 'optuna.db'}"

    def objective(trial: optuna.Trial) -> float:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        trial.report(x, 1)
        if trial.number % 5 == 4:
            raise optuna.TrialPruned
        return float("nan") if trial.number % 5 == 3 else (x - 0.2) ** 2 + (y - 0.8) ** 2

    study = optuna.create_study(
        study_name="Their Study", storage=url, direction="minimize", sampler=optuna.samplers.RandomSampler(seed=1)
    )
    study.optimize(objective, n_trials=25)
    optuna.create_study(study_name="empty", storage=url)
    return url


def foreign_spec(storage: str, study: str = "Their Study", trials: str = "all", **changes: Any) -> SweepSpec:
    return warm_spec(warm_start={"study": study, "storage": storage, "trials": trials}, **changes)


def test_a_study_of_another_program_can_be_learned_from_through_its_storage(tmp_path: Path, storage: str) -> None:
    space = {"net.x": SPACE["x"], "net.y": SPACE["y"]}
    spec = foreign_spec(storage, search_space=space)
    ledger = started(tmp_path, "late", spec)
    learned = ledger.attributes.warm_start or []
    assert [entry["state"] for entry in learned].count("COMPLETE") == 15
    assert [entry["state"] for entry in learned].count("PRUNED") == 5, "with the value that they had reported"
    assert all(set(entry["params"]) == {"net.x", "net.y"} for entry in learned)
    pruned = next(entry for entry in learned if entry["state"] == "PRUNED")
    assert pruned["values"] == [pruned["params"]["net.x"]]
    tried = [run_one(ledger, spec) for _ in range(10)]
    assert sum((one["net.x"] - 0.2) ** 2 + (one["net.y"] - 0.8) ** 2 for one in tried) / 10 < 0.15, "chance: 0.31"
    best = started(tmp_path, "best", foreign_spec(storage, trials="best 3")).attributes.warm_start
    values = sorted(entry["values"][0] for entry in learned if entry["state"] == "COMPLETE")
    assert [entry["values"] for entry in best or []] == [[value] for value in values[:3]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"study": "their study"}, "its studies are `Their Study`, `empty`"),
        ({"study": "empty"}, "no finished trial of the study `empty`"),
        ({"objective": {"metric": METRIC, "mode": "max"}}, "would minimize, and this one maximize"),
        ({"storage": "sqlite:////nowhere/optuna.db"}, "there is no file `/nowhere/optuna.db`"),
        ({"storage": "optuna.db"}, "the URL of the storage cannot be read"),
    ],
)
def test_a_storage_that_does_not_fit_is_refused(
    tmp_path: Path, storage: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as error:
        started(tmp_path, "late", foreign_spec(**({"storage": storage} | changes)))
    assert said in error.value.render()


def test_a_password_and_a_name_that_no_study_here_can_have_are_refused() -> None:
    with pytest.raises(ValidationError, match="a password must not be in a spec"):
        foreign_spec("postgresql://me:secret@host/db")
    with pytest.raises(ValidationError, match="`study` must match"):
        warm_spec(warm_start={"study": "Their Study"})
