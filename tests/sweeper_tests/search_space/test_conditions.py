"""Which parameters exist, what a grid contains, and that every way of drawing stays inside its dimension."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.search_space.conditions import can_be_met, contains, existing, exists, parents_first, point
from sweeper.search_space.dimensions import AnyDimension, dimensions_of
from sweeper.search_space.grid import grid_points, grid_size
from sweeper.search_space.unit import listed, value_at

CHAIN = dimensions_of(
    {
        "heads": {"type": "int", "low": 1, "high": 3, "when": {"layers": [2, 4], "net": "vit"}},
        "net": {"choices": ["cnn", "vit"]},
        "layers": {"choices": [2, 4, 6], "when": {"net": "vit"}},
    }
)
DIMENSIONS: list[dict[str, Any]] = [
    {"low": -1, "high": 2},
    {"low": 1e-4, "high": 10, "log": True},
    {"low": 0, "high": 1, "step": 0.1},
    {"values": [3.0, 1.0, 2.0]},
    {"type": "int", "low": -3, "high": 9, "step": 4},
    {"type": "int", "low": 1, "high": 1000, "log": True},
    {"choices": ["a", 1, 0.5, False]},
]


def one(raw: dict[str, Any]) -> AnyDimension:
    return dimensions_of({"x": raw})["x"]


def test_parents_come_before_their_children_and_the_rest_stays_as_written() -> None:
    assert parents_first(CHAIN) == ["net", "layers", "heads"]
    assert parents_first(dimensions_of({name: {"low": 0, "high": 1} for name in "bca"})) == ["b", "c", "a"]


def test_a_child_exists_only_if_its_whole_chain_does() -> None:
    assert existing(CHAIN, {"net": "cnn"}) == {"net"}
    assert existing(CHAIN, {"net": "vit"}) == {"net", "layers"}
    assert existing(CHAIN, {"net": "vit", "layers": 4}) == {"net", "layers", "heads"}
    assert existing(CHAIN, {"net": "vit", "layers": 6}) == {"net", "layers"}


def test_true_is_not_1() -> None:
    flag = dimensions_of({"x": {"choices": [1, 2]}, "y": {"low": 0, "high": 1, "when": {"x": 1}}})
    assert exists(flag["y"], {"x": 1})
    assert not exists(flag["y"], {"x": True})
    assert not contains(flag["x"], True)


def test_a_grid_is_the_product_in_written_order_without_parameters_that_do_not_exist() -> None:
    assert list(grid_points(CHAIN, ["heads != 2"])) == [
        {"net": "cnn"},
        *({"net": "vit", "layers": layers, "heads": heads} for layers in (2, 4) for heads in (1, 3)),
        {"net": "vit", "layers": 6},
    ]
    values = dimensions_of({"lr": {"values": [1e-2, 1e-4]}, "batch": {"choices": [64, 32]}})
    assert list(grid_points(values, [])) == [
        {"lr": 1e-2, "batch": 64},
        {"lr": 1e-2, "batch": 32},
        {"lr": 1e-4, "batch": 64},
        {"lr": 1e-4, "batch": 32},
    ]
    assert grid_size(CHAIN, ["heads != 2"]) == 6


@pytest.mark.parametrize("raw", DIMENSIONS)
@given(unit=st.floats(0, 1, exclude_max=True))
def test_every_point_of_the_unit_interval_is_a_value_of_the_dimension(raw: dict[str, Any], unit: float) -> None:
    dimension = one(raw)
    assert contains(dimension, value_at(dimension, unit))


@pytest.mark.parametrize("raw", DIMENSIONS)
def test_listed_values_are_reached_evenly(raw: dict[str, Any]) -> None:
    dimension = one(raw)
    values = listed(dimension)
    reached = [value_at(dimension, index / 100_000) for index in range(0, 100_000, 5)]
    if values is None:
        assert min(reached) == pytest.approx(dimension.low)  # type: ignore[union-attr]
        assert max(reached) == pytest.approx(dimension.high, rel=1e-3)  # type: ignore[union-attr]
    else:
        assert set(reached) == set(values)
        if not getattr(dimension, "log", False):
            assert {reached.count(value) for value in values} <= {
                len(reached) // len(values),
                len(reached) // len(values) + 1,
            }


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ({"low": 0, "high": 1}, 1.01),
        ({"low": 0, "high": 1}, "a"),
        ({"low": 0, "high": 1}, True),
        ({"low": 0, "high": 1, "step": 0.1}, 0.15),
        ({"values": [1.0, 2.0]}, 1.5),
        ({"type": "int", "low": 0, "high": 4, "step": 2}, 3),
        ({"type": "int", "low": 0, "high": 4}, 2.0),
        ({"choices": ["a", "b"]}, "c"),
    ],
)
def test_a_dimension_does_not_contain_other_values(raw: dict[str, Any], value: object) -> None:
    assert not contains(one(raw), value)


def test_a_point_has_the_fixed_values_and_the_parameters_that_then_exist() -> None:
    units = {"net": 0.0, "layers": 0.0, "heads": 0.99}
    assert point(CHAIN, units, {}) == {"net": "cnn"}
    assert point(CHAIN, units, {"net": "vit"}) == {"net": "vit", "layers": 2, "heads": 3}


def test_constraints_that_no_point_meets_are_known_in_advance() -> None:
    space = dimensions_of({"a": {"low": 0, "high": 1}, "b": {"low": 0, "high": 1}})
    assert can_be_met(space, ["a + b > 1.8"], {})
    assert not can_be_met(space, ["a + b > 2.5"], {})
    assert not can_be_met(space, ["a + b > 1.8"], {"a": 0.5})
