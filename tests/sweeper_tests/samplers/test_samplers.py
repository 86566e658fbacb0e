"""CMA-ES, samplers that a spec names by their class, and priors."""

from pathlib import Path
from statistics import median
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proposals import METRIC, SPACE, make_spec

from sweeper.errors import SpecError, UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report, TrialState
from sweeper.samplers.custom import check_sampler
from sweeper.search_space.conditions import contains
from sweeper.search_space.dimensions import dimensions_of
from sweeper.search_space.unit import prior_at, unit_of, value_at
from sweeper.spec.load import parse_spec
from sweeper.spec.resolve import SweepSpec

STATES = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COLLAPSED, TrialState.FAILED, TrialState.COMPLETE]
PLANE = {"x": {"low": 0.0, "high": 1.0}, "y": {"low": 1e-4, "high": 1.0, "log": True}}


class Middle(optuna.samplers.BaseSampler):
    """A user's own sampler: it takes no seed, and it stores what it did."""

    def __init__(self, share: float = 0.5) -> None:
        self.share = share

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        study._storage.set_trial_system_attr(trial._trial_id, "middle:seen", True)
        return {}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        return param_distribution.low + self.share * (param_distribution.high - param_distribution.low)


def propose(
    folder: Path, spec: SweepSpec, count: int, *, reopen: bool = False, ended: bool = True
) -> list[dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    ledger, tried = Ledger.create(folder, "toy"), []
    for number in range(count):
        if reopen:
            ledger = Ledger.create(folder, "toy")
        record = ledger.ask(spec)
        tried.append(dict(record.params))
        if ended:
            value = sum((float(value) - 0.3) ** 2 for value in record.params.values() if isinstance(value, float))
            ledger.report(record.id, Report(1, 1.0, {METRIC: value}, None, 1), value)
            ledger.finish(record.id, STATES[number % 5], "", {}, (value,))
    return tried


@pytest.mark.parametrize(
    ("name", "more"),
    [("cmaes", {}), ("optuna.samplers:TPESampler", {"n_startup_trials": 3, "multivariate": True})],
)
def test_a_study_reopened_at_every_trial_proposes_the_same(name: str, more: dict[str, Any], tmp_path: Path) -> None:
    spec = make_spec(name, search_space=SPACE, sampler={"name": name, **more}, enqueue=[{"loss.a": 1.0}])
    assert propose(tmp_path / "whole", spec, 15) == propose(tmp_path / "pieces", spec, 15, reopen=True)


def test_cmaes_ends_closer_to_the_best_than_it_began(tmp_path: Path) -> None:
    space = {name: {"low": -1.0, "high": 1.0} for name in "abcd"}
    tried = propose(tmp_path, make_spec("cmaes", search_space=space), 64)
    distances = [sum((value - 0.3) ** 2 for value in params.values()) for params in tried]
    assert median(distances[-12:]) < 0.5 * median(distances[:12])


def test_an_optuna_sampler_is_named_by_its_class_and_read_back(tmp_path: Path) -> None:
    spec = make_spec("random", sampler={"name": "optuna.samplers:TPESampler", "n_startup_trials": 2})
    assert spec.sampler.arguments == {"n_startup_trials": 2}
    assert SweepSpec.model_validate(spec.model_dump()).sampler == spec.sampler
    assert check_sampler(spec) == []
    assert len(propose(tmp_path, spec, 4)) == 4


def test_what_a_sampler_cannot_promise_is_reported() -> None:
    spec = make_spec("random", search_space=PLANE, sampler={"name": f"{__name__}:Middle", "share": 0.25})
    assert check_sampler(spec) == [
        "the sampler takes no `seed`: a resumed study may propose something other than an uninterrupted one would have",
        "the sampler stores middle:seen to remember: that is lost, so it may search less well",
    ]


@pytest.mark.parametrize(
    ("sampler", "told"),
    [
        ({"name": "no_such_module:Sampler"}, "cannot import `no_such_module`: ModuleNotFoundError"),
        ({"name": "optuna.samplers:Sampler"}, "`optuna.samplers:Sampler` is not a subclass of optuna.samplers"),
        ({"name": "optuna.samplers:TPESampler", "depth": 3}, "unexpected keyword argument 'depth'"),
        ({"name": "optuna.samplers:BruteForceSampler"}, "no parameter is set before all are drawn"),
    ],
)
def test_a_sampler_that_cannot_be_created_is_reported_in_one_line(sampler: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as error:
        check_sampler(make_spec("random", sampler=sampler))
    assert told in error.value.render()


TEXT = """\
name: tiny
search_space:
  loss.lambda_joint: {low: 0.1, high: 10.0, log: true, prior: {center: 1.0, spread: 2.0}}
  optim.batch_size: {type: int, low: 16, high: 256, step: 16}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 4
"""


def test_a_prior_is_recorded_only_where_there_is_one() -> None:
    space = parse_spec(TEXT, Path("s.yaml")).effective["search_space"]
    assert space["loss.lambda_joint"]["prior"] == {"center": 1.0, "spread": 2.0}
    assert "prior" not in space["optim.batch_size"]
    assert "arguments" not in parse_spec(TEXT, Path("s.yaml")).effective["sampler"]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("search_space.loss.lambda_joint.prior.center=20", "the center of the prior must be between 0.1 and 10"),
        ("search_space.loss.lambda_joint.prior.spread=0.5", "the spread of the prior is a factor > 1, but got 0.5"),
        ("search_space.loss.lambda_joint.prior.spred=2", "did you mean `spread`?"),
        ("sampler.name=optuna.samplers:TPESampler", "takes no priors"),
        ("sampler.name=tpee", "did you mean `tpe`?"),
        ("sampler.arguments={a: 1}", "`arguments` belong to a sampler that is named by its class"),
    ],
)
def test_impossible_priors_and_samplers_are_refused(override: str, told: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_spec(TEXT, Path("s.yaml"), [override])
    assert told in error.value.render()


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp", "cmaes", "nsga2"])
def test_startup_draws_come_from_the_prior(sampler: str, tmp_path: Path) -> None:
    space = {"x": {"low": 0.0, "high": 1.0, "prior": {"center": 0.2, "spread": 0.02}}, "y": {"low": 0.0, "high": 1.0}}
    spec = make_spec(sampler, search_space=space, sampler={"name": sampler, "startup_trials": 12})
    tried = propose(tmp_path, spec, 12, ended=False)
    assert all(0.1 < params["x"] < 0.3 for params in tried)
    assert max(params["y"] for params in tried) > 0.5


NUMERIC = [
    {"low": -1.0, "high": 2.0},
    {"low": 1e-4, "high": 10.0, "log": True},
    {"low": 0.0, "high": 1.0, "step": 0.1},
    {"type": "int", "low": -3, "high": 9, "step": 4},
    {"type": "int", "low": 1, "high": 1000, "log": True},
]


@pytest.mark.parametrize("raw", NUMERIC)
@given(unit=st.floats(0, 1, exclude_max=True), center=st.floats(0, 1), spread=st.floats(1e-3, 1e3))
def test_a_value_survives_a_round_trip_and_a_prior_stays_in_its_dimension(
    raw: dict[str, Any], unit: float, center: float, spread: float
) -> None:
    [dimension] = dimensions_of({"x": raw}).values()
    assert value_at(dimension, unit_of(dimension, value_at(dimension, unit))) == pytest.approx(
        value_at(dimension, unit)
    )
    middle = raw["low"] + center * (raw["high"] - raw["low"])
    prior = {"center": middle, "spread": 1 + spread if raw.get("log") else spread}
    [around] = dimensions_of({"x": raw | {"prior": prior}}).values()
    assert contains(around, prior_at(around, unit))
