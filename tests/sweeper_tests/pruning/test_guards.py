import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.pruning.guards import Evaluation, check_guards
from sweeper.spec.sections import CollapseGuard, PlateauGuard, ThresholdGuard

GUARD = CollapseGuard(after_epochs=2.0, for_evaluations=2, var_ratio_below=0.02, r2_below=0.02)


def curve(*points: tuple[float, float]) -> list[Evaluation]:
    """(theta_var_ratio, theta_r2) at epochs 1, 2, ..."""
    return [
        Evaluation(epoch, {"val/theta_var_ratio": ratio, "val/theta_r2": r2})
        for epoch, (ratio, r2) in enumerate(points, start=1)
    ]


def test_collapse_stops_after_enough_evaluations_past_the_warm_up() -> None:
    flat = [(0.001, -0.01)] * 3
    assert check_guards([GUARD], curve(*flat[:2])) is None
    tripped = check_guards([GUARD], curve(*flat))
    assert tripped is not None
    assert tripped.reason == (
        "collapse: theta_var_ratio 0.0010 < 0.02 and theta_r2 -0.010 < 0.02 at epochs 2, 3, not rising"
    )
    assert tripped.evidence["val/theta_var_ratio"] == [0.001, 0.001]


def test_a_dip_that_rises_again_is_left_alone() -> None:
    assert check_guards([GUARD], curve((0.2, 0.1), (0.002, 0.0), (0.004, 0.0))) is None


def test_low_variance_with_skill_is_left_alone() -> None:
    assert check_guards([GUARD], curve((0.01, 0.1), (0.01, 0.1), (0.01, 0.1))) is None


def test_one_healthy_evaluation_in_the_window_saves_the_trial() -> None:
    assert check_guards([GUARD], curve((0.001, 0.0), (0.1, 0.2), (0.001, 0.0))) is None


def test_a_trainer_without_these_metrics_never_trips_it() -> None:
    assert check_guards([GUARD], [Evaluation(epoch, {"val/loss": 1.0}) for epoch in (1, 2, 3, 4)]) is None


def test_a_nan_loss_trips_whatever_the_spec_says() -> None:
    tripped = check_guards([], [Evaluation(1, {"train/loss": math.nan})])
    assert tripped is not None
    assert tripped.reason == "train/loss is nan at epoch 1"


def test_threshold_guard_names_metric_limit_and_epochs() -> None:
    guard = ThresholdGuard(name="no skill", kind="threshold", metric="val/skill", below=0.0, after_epochs=2)
    points = [Evaluation(1, {"val/skill": -0.5}), Evaluation(2, {"val/skill": -0.25})]
    assert check_guards([guard], points[:1]) is None
    tripped = check_guards([guard], points)
    assert tripped is not None
    assert tripped.reason == "no skill: val/skill -0.25 < 0 at epoch 2"


def test_threshold_guard_on_values_that_are_not_finite() -> None:
    guard = ThresholdGuard(name="numbers", kind="threshold", metric="val/auc", nonfinite=True, for_evaluations=2)
    broken = [Evaluation(epoch, {"val/auc": value}) for epoch, value in ((0.5, math.nan), (1, math.inf))]
    assert check_guards([guard], broken[:1]) is None
    tripped = check_guards([guard], broken)
    assert tripped is not None
    assert tripped.reason == "numbers: val/auc inf is not finite at epochs 0.5, 1"
    assert check_guards([guard], [broken[0], Evaluation(1, {"val/auc": 0.5})]) is None


def test_a_metric_that_is_not_reported_trips_no_threshold() -> None:
    guard = ThresholdGuard(name="all", kind="threshold", metric="x", below=0.0, above=1.0, nonfinite=True)
    assert check_guards([guard], [Evaluation(1, {"y": math.nan})]) is None
    above = check_guards([guard], [Evaluation(1, {"x": 2.0})])
    assert above is not None
    assert above.reason == "all: x 2 > 1 at epoch 1"


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-1, 1)), min_size=1, max_size=8))
def test_the_guard_trips_exactly_when_its_conditions_hold(points: list[tuple[float, float]]) -> None:
    tripped = check_guards([GUARD], curve(*points))
    window = points[1:][-2:]
    low = len(window) == 2 and all(ratio < 0.02 and r2 < 0.02 for ratio, r2 in window)
    rising = len(window) == 2 and window[1][0] > 1.5 * window[0][0]
    assert (tripped is not None) == (low and not rising)


@pytest.mark.parametrize(
    ("mode", "values", "stops"),
    [
        ("min", [5.0, 4.0, 4.0, 4.0, 4.0], True),
        ("min", [5.0, 4.0, 3.95, 3.92, 3.91], True),
        ("min", [5.0, 4.0, 3.0, 2.0, 1.0], False),
        ("min", [5.0, 4.0, 4.0, 4.0, 3.8], False),
        ("max", [0.1, 0.9, 0.5, 0.5, 0.5], True),
        ("max", [0.1, 0.2, 0.3, 0.5, 0.7], False),
        ("min", [4.0, math.nan, math.nan, math.nan], True),
        ("min", [math.nan, math.nan, math.nan, math.nan], False),
        ("min", [5.0, 4.0], False),
    ],
)
def test_a_plateau_stops_a_trial_that_no_longer_improves(mode: str, values: list[float], stops: bool) -> None:
    guard = PlateauGuard(name="flat", kind="plateau", metric="val/x", mode=mode, min_delta=0.1, for_evaluations=3)  # type: ignore[arg-type]
    curve = [Evaluation(float(epoch), {"val/x": value}) for epoch, value in enumerate(values, start=1)]
    assert (check_guards([guard], curve) is not None) == stops


def test_the_plateau_guard_names_the_best_value_and_waits_for_its_epoch() -> None:
    curve = [Evaluation(float(epoch), {"val/x": 4.0} if epoch != 3 else {}) for epoch in range(1, 6)]
    guard = PlateauGuard(name="flat", kind="plateau", metric="val/x", mode="min", for_evaluations=3)
    tripped = check_guards([guard], curve)
    assert tripped is not None
    assert tripped.reason == "flat: val/x no better than 4 of epoch 1 in 3 evaluations"
    assert check_guards([guard.model_copy(update={"after_epochs": 6.0})], curve) is None
