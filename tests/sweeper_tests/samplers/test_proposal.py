"""What a study proposes: the same after a restart, within its space and its constraints, and first what it was told
to try first."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proposals import CONSTRAINTS, METRIC, SPACE, make_spec

from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger, Report, TrialState
from sweeper.search_space.conditions import existing
from sweeper.search_space.constraints import all_hold
from sweeper.spec.resolve import SweepSpec

SAMPLERS = ["tpe", "random", "qmc", "cmaes", "nsga2"]
STATES = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COLLAPSED, TrialState.FAILED, TrialState.COMPLETE]


def open_ledger(folder: Path) -> Ledger:
    folder.mkdir(parents=True, exist_ok=True)
    return Ledger.create(folder, "toy")


def run_one(ledger: Ledger, spec: SweepSpec) -> dict[str, Any]:
    """One trial whose value follows from its parameters, and its end from its number."""
    record = ledger.ask(spec)
    value = float(record.params.get("loss.a", 1.0)) + 3.0 * float(record.params.get("loss.b", 0.0))
    ledger.report(record.id, Report(1, 1.0, {METRIC: value}, None, 1), value)
    ledger.finish(record.id, STATES[record.number % len(STATES)], "", {}, (value,))
    return dict(record.params)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(breaks=st.sets(st.integers(0, 9)), seed=st.integers(0, 1000))
def test_a_study_reopened_anywhere_proposes_what_an_uninterrupted_one_would(
    sampler: str, breaks: set[int], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spec = make_spec(sampler, seed=seed, constraints=CONSTRAINTS, enqueue=[{"loss.a": 1.0}])
    folder = tmp_path_factory.mktemp("studies")
    unbroken = open_ledger(folder / "a")
    ledger = open_ledger(folder / "b")
    for number in range(10):
        if number in breaks:
            ledger = open_ledger(folder / "b")
        assert run_one(ledger, spec) == run_one(unbroken, spec), f"trial {number}"


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_trial_violates_a_constraint_or_has_an_extra_parameter(sampler: str, tmp_path: Path) -> None:
    spec, ledger = make_spec(sampler, constraints=CONSTRAINTS), open_ledger(tmp_path)
    tried = [run_one(ledger, spec) for _ in range(25)]
    assert all(all_hold(CONSTRAINTS, params) for params in tried)
    assert all(set(params) == existing(spec.search_space, params) for params in tried)
    assert {params["net"] for params in tried} == {"cnn", "vit"}
    free = make_spec(sampler)
    unconstrained = [run_one(open_ledger(tmp_path / "free"), free) for _ in range(25)]
    assert not all(all_hold(CONSTRAINTS, params) for params in unconstrained), "the constraints would not be needed"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_another_seed_proposes_something_else(sampler: str, tmp_path: Path) -> None:
    one = [run_one(open_ledger(tmp_path / "1"), make_spec(sampler, seed=1)) for _ in range(6)]
    two = [run_one(open_ledger(tmp_path / "2"), make_spec(sampler, seed=2)) for _ in range(6)]
    assert all(first != second for first, second in zip(one, two, strict=True))


def test_known_configurations_come_first_and_their_missing_values_are_sampled(tmp_path: Path) -> None:
    entries = [{"loss.a": 2.0, "net": "vit", "layers": 5}, {}, {"loss.b": 0.25}]
    spec, ledger = make_spec("tpe", enqueue=entries), open_ledger(tmp_path)
    tried = [run_one(ledger, spec) for _ in range(4)]
    assert tried[0].items() >= entries[0].items()
    assert set(tried[0]) == {"loss.a", "loss.b", "net", "layers"}
    assert tried[2]["loss.b"] == 0.25
    assert tried[1] == run_second(make_spec("tpe"), tmp_path / "plain")


def run_second(spec: SweepSpec, folder: Path) -> dict[str, Any]:
    return [run_one(open_ledger(folder), spec) for _ in range(2)][1]


def test_a_proposal_cut_off_at_any_parameter_is_completed_with_the_same_values(tmp_path: Path) -> None:
    spec = make_spec("tpe", constraints=CONSTRAINTS)
    for folder in ("whole", "cut"):
        for _ in range(6):
            run_one(open_ledger(tmp_path / folder), spec)
    journal = tmp_path / "cut" / "ledger.journal"
    before = journal.read_bytes()
    expected = open_ledger(tmp_path / "whole").ask(spec).params
    open_ledger(tmp_path / "cut").ask(spec)
    added = journal.read_bytes()[len(before) :].splitlines(keepends=True)
    assert len(added) > len(expected)
    for kept in range(2, len(added) + 1):  # the first line opens the study, the second the trial
        journal.write_bytes(before + b"".join(added[:kept]))
        [left_over] = open_ledger(tmp_path / "cut").unfinished(spec)
        assert left_over.params == expected, f"after {kept} of {len(added)} writes"


def test_a_grid_is_tried_in_written_order_even_after_a_restart(tmp_path: Path) -> None:
    space = {
        "lr": {"values": [1e-2, 1e-4, 1e-3]},
        "net": {"choices": ["cnn", "vit"]},
        "layers": {"type": "int", "low": 2, "high": 4, "step": 2, "when": {"net": "vit"}},
    }
    spec = make_spec("grid", search_space=space, trials=9)
    tried = [run_one(open_ledger(tmp_path), spec) for _ in range(9)]
    assert tried == [
        {"lr": lr, **rest}
        for lr in (1e-2, 1e-4, 1e-3)
        for rest in ({"net": "cnn"}, {"net": "vit", "layers": 2}, {"net": "vit", "layers": 4})
    ]


def test_constraints_that_nothing_meets_are_refused_with_a_reason(tmp_path: Path) -> None:
    spec = make_spec("random", constraints=["loss.a > 100"])
    with pytest.raises(UserError, match="none of 2000 draws for trial 0 meets the constraints"):
        open_ledger(tmp_path).ask(spec)


def test_a_rare_corner_is_found(tmp_path: Path) -> None:
    constraint = "loss.a * loss.b > 8"  # 2 draws in 1000
    assert all_hold([constraint], run_one(open_ledger(tmp_path), make_spec("tpe", constraints=[constraint])))


@pytest.mark.slow
def test_a_gaussian_process_proposes_the_same_after_a_restart_and_learns(tmp_path: Path) -> None:
    spec = make_spec("gp", search_space={key: SPACE[key] for key in ("loss.a", "loss.b", "net")})
    whole = open_ledger(tmp_path / "whole")
    unbroken = [run_one(whole, spec) for _ in range(8)]
    assert unbroken == [run_one(open_ledger(tmp_path / "pieces"), spec) for _ in range(8)]
    other = [run_one(open_ledger(tmp_path / "random"), make_spec("random")) for _ in range(8)]
    assert [params["loss.b"] for params in unbroken[4:]] != [params["loss.b"] for params in other[4:]]


def test_a_sobol_sequence_fills_the_space_more_evenly_than_chance(tmp_path: Path) -> None:
    space = {"x": {"low": 0.0, "high": 1.0}, "y": {"low": 0.0, "high": 1.0}}

    def cells(sampler: str) -> int:
        ledger, spec = open_ledger(tmp_path / sampler), make_spec(sampler, search_space=space, seed=3)
        tried = [ledger.ask(spec).params for _ in range(16)]
        return len({(int(4 * float(params["x"])), int(4 * float(params["y"]))) for params in tried})

    assert cells("qmc") == 16, "one point of 16 in each cell of a 4 x 4 grid"
    assert cells("random") < 16


TWO = [{"metric": METRIC, "mode": "min"}, {"metric": "val/f5", "mode": "max"}]


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsga2"])
def test_a_sampler_with_several_objectives_proposes_the_same_after_a_restart(sampler: str, tmp_path: Path) -> None:
    spec = make_spec(sampler, objective=TWO)

    def run(folder: Path, reopen: bool) -> list[dict[str, Any]]:
        tried, ledger = [], None
        for number in range(9):
            if reopen or ledger is None:
                folder.mkdir(exist_ok=True)
                ledger = Ledger.create(folder, "toy", modes=["min", "max"])
            record = ledger.ask(spec)
            b = float(record.params["loss.b"])
            ledger.report(record.id, Report(1, 1.0, {METRIC: b, "val/f5": 1 - b}, None, 1), b)
            ledger.finish(record.id, STATES[number % len(STATES)], "", {}, [b, 1 - b])
            tried.append(dict(record.params))
        return tried

    assert run(tmp_path / "whole", reopen=False) == run(tmp_path / "pieces", reopen=True)


def test_evolution_ends_closer_to_the_front_than_it_began(tmp_path: Path) -> None:
    spec = make_spec("nsga2", search_space={"x": SPACE["loss.b"], "y": SPACE["loss.b"]}, objective=TWO)
    ledger = Ledger.create(tmp_path, "toy", modes=["min", "max"])
    distances = []
    for _ in range(36):  # the front: y = 0, any x
        record = ledger.ask(spec)
        x, y = float(record.params["x"]), float(record.params["y"])
        ledger.finish(record.id, TrialState.COMPLETE, "", {}, [x + y, x - y])
        distances.append(y)
    assert sum(distances[-9:]) < 0.5 * sum(distances[:9])
