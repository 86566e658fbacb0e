"""What the trainer's config says about a search space: judged at whole configurations, as trials have them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator
from spec_pages import FILE, errors_of, page

from mano_trainers.report import EpochReport
from sweeper.spec.load import parse_spec
from sweeper.spec.validation.feasibility import feasibility


class Net(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    hidden: Annotated[int, Field(ge=1)] = 64
    heads: Annotated[int, Field(ge=1)] = 4
    balance: Literal["fixed", "learned"] = "fixed"
    terms: Annotated[int, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hidden % self.heads:
            raise ValueError("hidden is not divisible by heads")
        if self.balance == "learned" and self.terms < 2:
            raise ValueError("a learned balance needs 2 terms or more")
        return self


def train(config: Net, workdir: Path, resume: Path | None = None) -> Iterator[EpochReport]:
    raise NotImplementedError


def text_of(base: str, *space: str) -> str:
    lines = "".join(f"  {line}\n" for line in space)
    return f"""\
name: net
trainer: {__name__}:train
base: {base}
search_space:
{lines}objective: {{metric: val/error, mode: min}}
trials: 4
"""


@pytest.mark.parametrize(
    ("base", "space"),
    [
        ("{hidden: 30}", ["heads: {choices: [2, 3, 5]}"]),  # not with the default of heads, 4
        ("{heads: 3}", ["hidden: {type: int, low: 3, high: 300, step: 3}"]),  # base alone is refused
        ("{}", ["hidden: {choices: [30, 64]}", "heads: {choices: [3, 4]}"]),  # each only with its own partner
        ("{}", ["balance: {choices: [fixed, learned]}", "terms: {choices: [1, 2, 3]}"]),
        ("{balance: learned}", ["terms: {choices: [2, 3]}"]),
        ("{}", ["hidden: {type: int, low: 33, high: 96}", "heads: {choices: [4, 8]}"]),  # refused at one end
    ],
)
def test_values_that_some_trial_can_have_are_sound(base: str, space: list[str]) -> None:
    spec = parse_spec(text_of(base, *space), FILE)
    assert feasibility(spec).accepted > 0
    assert spec.effective["name"] == "net"


@pytest.mark.parametrize(
    ("base", "space", "expected"),
    [
        (
            "{hidden: 31}",
            ["heads: {choices: [2, 3, 5]}"],
            page("hidden is not divisible by heads", "s.yaml:3:7 base"),
        ),
        (
            "{}",
            ["hidden: {choices: [30, 31, 64]}", "heads: {choices: [2, 3, 4]}"],
            page(
                "the trainer's config rejects every trial with 31: hidden is not divisible by heads",
                "s.yaml:5:26 search_space.hidden.choices.1",
                "remove it",
            ),
        ),
        (
            "{}",
            ["hidden: {choices: [0, 64]}", "heads: {choices: [3, 4]}"],
            page("expected a number >= 1 but got 0", "s.yaml:5:22 search_space.hidden.choices.0"),
        ),
        (
            "{heads: none}",
            ["hidden: {choices: [32, 64]}"],
            page("expected a whole number but got `none`", "s.yaml:3:15 base.heads"),
        ),
    ],
)
def test_values_that_no_trial_can_have_are_refused(base: str, space: list[str], expected: str) -> None:
    assert errors_of(text_of(base, *space)) == expected


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True),
)
def test_a_spec_is_sound_exactly_if_each_choice_has_a_partner(hidden: list[int], heads: list[int]) -> None:
    text = text_of("{}", f"hidden: {{choices: {hidden}}}", f"heads: {{choices: {heads}}}")
    sound = all(any(h % n == 0 for n in heads) for h in hidden) and all(any(h % n == 0 for h in hidden) for n in heads)
    if sound:
        found = feasibility(parse_spec(text, FILE))
        assert found.accepted == sum(h % n == 0 for h in hidden for n in heads)
    else:
        assert "hidden is not divisible by heads" in errors_of(text)
