"""The yardstick for a rerun that differs: how far apart two seeds of its study are."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sweeper.reproducibility.metric_diff import deviations
from sweeper.reproducibility.rerun import Rerun
from sweeper.reproducibility.verdict import judge
from sweeper.tracking import RecordedTrial, Tracker, find_trial, tracking_uri
from sweeper.tracking.recorded.seed_spread import SeedSpread, seed_spread

ERROR = "val/pa_mpjpe_mm"
SPREAD = SeedSpread(ERROR, 0.5, 8)


def trial(*values: float) -> RecordedTrial:
    metrics = {step: {ERROR: value, "epoch": float(step)} for step, value in enumerate(values, start=1)}
    return RecordedTrial("toy", "toy-0001", "run", {}, "trainer:train", metrics, {}, {}, {}, {})


def verdict(then: RecordedTrial, *now: float, failure: str | None = None, spread: SeedSpread | None = SPREAD) -> str:
    rerun = Rerun(metrics=trial(*now).metrics, failure=failure)
    return judge(deviations(then.metrics, rerun.metrics), rerun, then, spread)


def test_two_seeds_are_within_the_yardstick_in_19_of_20_pairs() -> None:
    """The yardstick is measured in the study, and the rerun differs as another seed would."""
    random, inside, studies = np.random.default_rng(0), 0, 4000
    for _ in range(studies):
        groups = random.normal(0.0, 0.5, (4, 3))
        sd = math.sqrt(float(groups.var(1, ddof=1).mean()))
        first, second = random.normal(0.0, 0.5, 2)
        inside += abs(first - second) <= SeedSpread(ERROR, sd, 8).largest
    assert inside / studies == pytest.approx(0.95, abs=0.012)
    assert SPREAD.largest == pytest.approx(math.sqrt(2) * 0.5 * stats.t.ppf(0.975, 8))


def test_one_verdict_is_between_close_and_different() -> None:
    then = trial(20.0, 15.0)
    near = verdict(then, 21.0, 15.9)
    assert near.startswith("AS FAR APART AS TWO SEEDS from epoch 1 (val/pa_mpjpe_mm): val/pa_mpjpe_mm ends 0.9 apart; ")
    assert verdict(then, 21.0, 17.0).startswith("DIFFERS from epoch 1 (val/pa_mpjpe_mm), further than seeds: ")
    assert verdict(then, 20.0, 15.001).startswith("WITHIN TOLERANCE")
    assert verdict(then, 20.0, 15.0) == "BIT-EXACT"
    assert verdict(then, 21.0, 15.9, spread=None) == "DIFFERS from epoch 1 (val/pa_mpjpe_mm)"
    assert verdict(then, 21.0, failure="killed").startswith("DIFFERS from epoch 1")
    assert verdict(then, 21.0).startswith("DIFFERS"), "cut short: nothing is known of its end"
    assert verdict(then, 21.0, math.nan).startswith("DIFFERS")


def record(home: Path, seeds: int, states: str = "COMPLETE") -> None:
    """A study of two variants over seeds: 10 and 20 mm, plus a quarter of a millimetre per seed."""
    folder = home / "studies" / "toy"
    folder.mkdir(parents=True)
    tracker = Tracker(folder, tracking_uri(home), home / "artifacts", "toy")
    tracker.start_study({"sweeper.objective": f"{ERROR}:min"}, {})
    text = "config: {}\ntrainer: scripted_trainer:train\n"
    for number, (variant, seed) in enumerate((variant, seed) for variant in (0, 1) for seed in range(seeds)):
        name = f"toy-{number:04d}"
        tags = {"sweeper.role": "candidate"}
        tracker.start_trial(name, {"variant": "ab"[variant], "seed": seed}, tags, {"trial.yaml": text})
        tracker.report(name, 1, 1000, {ERROR: 10.0 + 10 * variant + 0.25 * seed, "epoch": 1.0})
        tracker.finish_trial(name, "FINISHED", {"sweeper.state": states})
    assert tracker.flush(60) == 0
    tracker.close()


def test_the_spread_is_that_of_runs_that_differ_only_in_their_seed(home: Path) -> None:
    record(home, 3)
    uri = tracking_uri(home)
    found = seed_spread(uri, find_trial(uri, "toy-0000"))
    assert found == SeedSpread(ERROR, pytest.approx(0.25), 4)


def test_a_study_with_one_seed_has_no_yardstick(home: Path) -> None:
    record(home, 1)
    uri = tracking_uri(home)
    assert seed_spread(uri, find_trial(uri, "toy-0000")) is None
