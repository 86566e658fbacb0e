from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sweeper.search_space.dimensions import (
    AnyDimension,
    CategoricalDimension,
    Dimension,
    FloatDimension,
    IntDimension,
    extremes,
)
from sweeper.search_space.paths import set_path, short_names

ADAPTER: TypeAdapter[AnyDimension] = TypeAdapter(Dimension)


@pytest.mark.parametrize(
    ("raw", "dimension"),
    [
        ({"low": 1, "high": 2}, FloatDimension(low=1.0, high=2.0)),
        ({"low": 0.01, "high": 10, "log": True}, FloatDimension(low=0.01, high=10.0, log=True)),
        ({"low": 0, "high": 1, "step": 0.1}, FloatDimension(low=0.0, high=1.0, step=0.1)),
        ({"type": "int", "low": 1, "high": 9, "step": 4}, IntDimension(type="int", low=1, high=9, step=4)),
        ({"choices": [8, 2.5, "a", True]}, CategoricalDimension(choices=(8, 2.5, "a", True))),
    ],
)
def test_the_keys_determine_the_kind_of_dimension(raw: dict[str, Any], dimension: AnyDimension) -> None:
    parsed = ADAPTER.validate_python(raw)
    assert parsed == dimension
    assert ADAPTER.validate_python(parsed.model_dump(mode="json")) == parsed


def test_choices_keep_their_types() -> None:
    choices = CategoricalDimension(choices=(8, 0.5, "x", False)).choices
    assert [type(choice) for choice in choices] == [int, float, str, bool]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"low": 2, "high": 1}, "`low` must be less than `high`, but got low 2 and high 1"),
        ({"low": 1, "high": 1}, "`low` must be less than `high`, but got low 1 and high 1"),
        ({"low": 0, "high": 1, "log": True}, "`low` must be > 0 on a log scale, but got 0"),
        ({"low": 0, "high": 1, "step": 0.3}, "step 0.3 does not divide the range 0 to 1"),
        ({"low": 0, "high": 1, "step": 2}, "step 2 does not divide the range 0 to 1"),
        ({"low": 1, "high": 2, "step": 0.5, "log": True}, "`step` and `log` cannot be used together"),
        ({"type": "int", "low": 1, "high": 4, "step": 2}, "step 2 does not divide the range 1 to 4"),
        ({"type": "int", "low": 1, "high": 4, "step": 3, "log": True}, "`step` and `log` cannot be used together"),
        ({"choices": ["a", "b", "a"]}, "`choices` contains 'a' more than once"),
        ({"choices": [1, True]}, "`choices` contains 1 and True, which samplers treat as the same"),
    ],
)
def test_impossible_dimensions_are_refused(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        ADAPTER.validate_python(raw)
    assert [str(details["ctx"]["error"]) for details in error.value.errors()] == [message]


def test_extremes_are_both_ends_or_every_choice() -> None:
    assert extremes(FloatDimension(low=0.1, high=2.0)) == [(("low",), 0.1), (("high",), 2.0)]
    assert extremes(CategoricalDimension(choices=("a", "b"))) == [(("choices", 0), "a"), (("choices", 1), "b")]


def test_set_path_makes_sections_and_keeps_neighbours() -> None:
    config: dict[str, Any] = {"loss": {"a": 1}}
    set_path(config, "loss.b", 2)
    set_path(config, "optim.adam.lr", 3)
    assert config == {"loss": {"a": 1, "b": 2}, "optim": {"adam": {"lr": 3}}}
    with pytest.raises(TypeError, match=r"`a` of `loss\.a\.x` is not a mapping"):
        set_path(config, "loss.a.x", 1)


def test_short_names_are_longer_where_they_must_be() -> None:
    assert short_names(["optim.lr", "loss.lambda_pca", "head.lr", "seed"]) == {
        "optim.lr": "optim.lr",
        "head.lr": "head.lr",
        "loss.lambda_pca": "lambda_pca",
        "seed": "seed",
    }


@given(st.sets(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(".".join)))
def test_short_names_are_unique(paths: set[str]) -> None:
    names = short_names(paths)
    assert names.keys() == paths
    assert len(set(names.values())) == len(paths)
