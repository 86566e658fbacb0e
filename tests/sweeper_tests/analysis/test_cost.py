import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import TESTS
from studies import Clock, Log, make_spec, message, start

from sweeper.analysis.cost import estimate_cost
from sweeper.analysis.throughput import Throughput, recorded_throughput
from sweeper.cli.main import main
from sweeper.ledger.ledger import Ledger
from sweeper.pruning.asha import bracket_of
from sweeper.spec.sections import SchedulerConfig
from sweeper.study.controller import StudyController

SPEC = """
name: scripted
trainer: scripted_trainer:train
base: {epochs: 8, sleep_s: 0.02}
search_space:
  scale: {low: 0.5, high: 10.0}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 12
"""
PACE = Throughput(seconds_per_epoch=10.0, checkpoint_bytes=1000, checkpoints_per_epoch=1.0, source="a test")


@pytest.fixture(autouse=True)
def _timed_process_finds_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))


def test_halving_is_added_up_rung_by_rung() -> None:
    plan = estimate_cost(make_spec(trials=12), full_epochs=8, pace=PACE, free_bytes=10**9)
    assert plan.rungs == {2: 12, 4: 6, 8: 3}
    assert plan.expected.epochs == 12 * 2 + 6 * 2 + 3 * 4
    assert plan.worst.epochs == 96
    assert plan.expected.cpu_seconds == 480
    assert plan.expected.wall_clock_s == 240, "two at once"
    assert plan.expected.disk_bytes == 48 * 1000 * 2, "one for the study, one for MLflow"
    assert plan.problems == ()


def test_hyperband_adds_up_its_brackets() -> None:
    scheduler = {"name": "hyperband", "grace_epochs": 1, "eta": 2, "brackets": 2}
    plan = estimate_cost(make_spec(trials=6, scheduler=scheduler), full_epochs=4, pace=PACE, free_bytes=10**9)
    dealt = [bracket_of(SchedulerConfig.model_validate(scheduler), number) for number in range(6)]
    patient = dealt.count(1)
    eager = 6 - patient
    assert plan.rungs == {1: 6, 2: eager / 2 + patient, 4: max(1, eager / 4) + max(1, patient / 2)}


def test_a_control_that_trains_costs_the_grace_period() -> None:
    spec = make_spec(trials=12)
    bare, ruled = (estimate_cost(spec, 8, PACE, 10**9, trained_controls=count) for count in (0, 1))
    assert ruled.expected.epochs - bare.expected.epochs == ruled.worst.epochs - bare.worst.epochs == 2
    assert ruled.expected.trial_s == 500


@given(
    trials=st.integers(1, 500),
    full=st.integers(1, 64),
    eta=st.integers(2, 5),
    grace=st.integers(1, 10),
    none=st.booleans(),
)
def test_expected_cost_is_between_one_full_trial_and_all_trials_in_full(
    trials: int, full: int, eta: int, grace: int, none: bool
) -> None:
    scheduler = {"name": "none" if none else "asha", "eta": eta, "grace_epochs": grace}
    plan = estimate_cost(make_spec(trials=trials, scheduler=scheduler), full, PACE, 10**12)
    assert full - 1e-9 <= plan.expected.epochs <= plan.worst.epochs + 1e-9
    if none:
        assert plan.expected == plan.worst


@pytest.mark.parametrize(
    ("changes", "free_bytes", "problem"),
    [
        ({"budget": {"cpu_seconds": 240}}, 10**9, "about 6 trials fit"),
        ({"budget": {"wall_clock_s": 100}}, 10**9, "100 s of wall clock"),
        ({"budget": {"cpu_seconds": 480}}, 10**9, None),
        ({}, 95_000, "95 KB are free"),
        ({"budget": {"trials": 2, "cpu_seconds": 240}}, 10**9, None),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], free_bytes: int, problem: str | None) -> None:
    plan = estimate_cost(make_spec(trials=12, **changes), full_epochs=8, pace=PACE, free_bytes=free_bytes)
    assert [problem in text for text in plan.problems] == ([True] if problem else [])


def test_earlier_trials_of_the_same_shape_show_the_pace(tmp_path: Path) -> None:
    clock = Clock()
    spec = make_spec(trials=1)
    (tmp_path / "studies" / "toy").mkdir(parents=True)
    ledger = Ledger.create(tmp_path / "studies" / "toy", "toy")
    ledger.attributes.spec = spec.effective
    study = StudyController(spec, ledger, [Log()], clock)
    number = start(study)
    for epoch, seconds in ((1, 60.0), (2, 3.0), (3, 3.0)):  # the first evaluation warms up
        clock.now_s += seconds
        folder = tmp_path / "studies" / "toy" / "trials" / "0000" / f"epoch_{epoch:03d}"
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(b"x" * 500)
        study.on_report(number, message(epoch, 20.0, checkpoint=folder))
    pace = recorded_throughput(make_spec(trials=50, base={"epochs": 100, "seed": 3}), tmp_path)
    assert pace == Throughput(3.0, 500, 1.0, "earlier trials of toy")
    assert recorded_throughput(make_spec(base={"threads": 4}), tmp_path) is None, "another shape"
    assert recorded_throughput(make_spec(resources={"cpus": 4}), tmp_path) is None, "other resources"


def test_the_verb_says_unknown_or_measures_and_refuses_what_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    arguments = ["plan", str(tmp_path / "spec.yaml"), "--home", str(tmp_path / "home")]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "pace        unknown" in said
    assert "controls    2 epochs" in said
    assert not (tmp_path / "home").exists(), "a plan leaves nothing behind"

    assert main([*arguments, "--measure", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert 0.02 <= plan["pace"]["seconds_per_epoch"] < 1.0
    assert plan["expected"]["cpu_seconds"] == pytest.approx((48 + 2) * plan["pace"]["seconds_per_epoch"])
    assert plan["pace"]["checkpoint_bytes"] > 100

    assert main([*arguments, "--measure", "--set", "budget={cpu_seconds: 0.1}"]) == 2
    assert "but the budget is 0.1 CPU-seconds" in capsys.readouterr().err


def test_a_trainer_that_fails_while_it_is_timed_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    spec = str(tmp_path / "spec.yaml")
    assert main(["plan", spec, "--home", str(tmp_path), "--measure", "--set", "base.crash_at=1"]) == 2
    assert "could not be timed" in capsys.readouterr().err
