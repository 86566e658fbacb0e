import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sweeper.reproducibility.metric_diff import Deviation, deviation_table, deviations, tensor_deviation

steps = st.dictionaries(st.integers(1, 5), st.dictionaries(st.sampled_from("abc"), st.floats()), min_size=1)


@given(steps)
def test_a_rerun_that_equals_the_record_deviates_nowhere(recorded: dict[int, dict[str, float]]) -> None:
    assert deviations(recorded, {step: dict(values) for step, values in recorded.items()}) == []


@given(steps, st.data())
def test_the_last_bit_of_any_value_is_noticed(recorded: dict[int, dict[str, float]], data: st.DataObject) -> None:
    places = [(step, name) for step, values in recorded.items() for name in values]
    if not places:
        return
    step, name = data.draw(st.sampled_from(places))
    value = recorded[step][name]
    changed = math.nextafter(value, 0.0 if value > 0 else math.inf) if math.isfinite(value) else 1.0
    rerun = {**recorded, step: {**recorded[step], name: changed}}
    assert [(found.step, found.metric) for found in deviations(recorded, rerun)] == [(step, name)]


@pytest.mark.parametrize(
    ("then", "now", "tolerable"),
    [
        (10.0, 10.0 * (1 + 0.9e-3), True),
        (10.0, 10.0 * (1 + 1.2e-3), False),
        (0.0, 0.9e-6, True),
        (0.0, 1.1e-6, False),
        (1.0, math.nan, False),
        (math.nan, 1.0, False),
        (1.0, None, False),
        (sys.float_info.max, 1.0, False),
    ],
)
def test_what_is_tolerable(then: float, now: float | None, tolerable: bool) -> None:
    assert Deviation(1, "a", then, now).is_tolerable is tolerable


def test_missing_values_deviate_and_timings_do_not() -> None:
    timings = {
        "train/seconds": 1.0,
        "train/images_per_s": 2.0,
        "gpu/peak_memory_mib": 3.0,
        "sys/cpu": 4.0,
        "eval_runtime": 5.0,
    }
    recorded = {1: {"a": 1.0, **timings}, 2: {"a": 2.0, "train/seconds_of_video": 1.0}}
    found = deviations(recorded, {1: {"a": 1.0, "new": 5.0}})
    assert found == [Deviation(2, "a", 2.0, None), Deviation(2, "train/seconds_of_video", 1.0, None)]


def test_the_table_names_the_worst_metric_first() -> None:
    found = [Deviation(1, "small", 1.0, 1.0001), Deviation(3, "large", 1.0, 1.5), Deviation(4, "large", 1.0, 1.2)]
    _, first, second = deviation_table(found).splitlines()
    assert first.split() == ["large", "3", "1.0", "1.5", "0.33"]
    assert second.split()[0] == "small"


def test_the_tensor_that_differs_most_is_named(tmp_path: Path) -> None:
    then = {"a": np.array([1.0, 2.0], np.float32), "b": np.array([100.0], np.float32)}
    save_file(then, tmp_path / "then")
    save_file({"a": then["a"] + np.float32(0.5), "b": then["b"] + np.float32(1.0)}, tmp_path / "now")
    assert tensor_deviation(tmp_path / "then", tmp_path / "now") == ("a", 0.5, 0.25)
    save_file({"a": then["a"]}, tmp_path / "fewer")
    assert tensor_deviation(tmp_path / "then", tmp_path / "fewer") == ("b", math.inf, math.inf)
    (tmp_path / "broken").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="cannot be compared"):
        tensor_deviation(tmp_path / "then", tmp_path / "broken")
