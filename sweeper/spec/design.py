"""The section `ablation` of a sweep file, and the variants that its design stands for. Pure.

A design turns factors and their levels into named runs; each run becomes one of the spec's `variants`, so that all
else (seeds, resuming, budget, tracking) is as for variants that are written out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import prod
from typing import Annotated, Any, Final, Literal

from pydantic import Field, WithJsonSchema

from sweeper.search_space.dimensions import Choice, SpecModel
from sweeper.search_space.paths import short_names

BASELINE: Final = "baseline"
"""Name of the run in which every factor has its baseline level."""
GENERATOR: Final = re.compile(r"([A-Z])\s*=\s*(-?)\s*([A-Z]+)")
Design = Literal["one_at_a_time", "leave_one_out", "add_one_in", "full_factorial", "fractional_factorial", "variants"]
LEVELS_SCHEMA: Final = {
    "anyOf": [
        {"type": "array", "minItems": 2},
        {"type": "object", "minProperties": 2, "additionalProperties": {"type": "object"}},
    ]
}


class Ablation(SpecModel):
    """What is taken apart: factors with levels, and which combinations of them are trained."""

    design: Design
    """`one_at_a_time`: the baseline, and each other level of each factor alone; `leave_one_out`: all factors at their
    second level, and all but one; `add_one_in`: all at their first level, and all but one; `full_factorial`: every
    combination; `fractional_factorial`: those of two-level factors that the generators select; `variants`: the spec's
    own `variants`."""
    factors: dict[str, Annotated[Any, WithJsonSchema(LEVELS_SCHEMA)]] = Field(default_factory=dict)
    """Factor -> its levels. Either a list of values, and the factor is named by the config field that takes them; or a
    mapping of a level's name to what it sets (dotted path of a config field -> value)."""
    baseline: dict[str, Choice] | str | None = None
    """Factor -> level that the others are compared with; default: the first of each. With `variants`: the variant's
    name."""
    generators: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """For a fraction: `D = ABC` sets the fourth factor of the list from the first three; one letter per factor, in
    order."""
    spread: Annotated[float, Field(gt=0)] | None = None
    """Assumed standard deviation of the objective over seeds, for `sweeper plan`; without it, as measured before."""


@dataclass(frozen=True)
class Factor:
    """One factor: level name -> what it sets, in written order."""

    name: str
    levels: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class DesignRun:
    """One run of a design: its name, and the level of each factor."""

    name: str
    levels: Mapping[str, str]


@dataclass(frozen=True)
class Word:
    """A product of factors that is the same in every run of a fraction: letters, and its sign."""

    letters: frozenset[str]
    sign: int


def level_name(value: object) -> str:
    """How a value of a listed level is named in runs and tables."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text.lower()


def factors_of(raw: Mapping[str, Any]) -> dict[str, Factor]:
    """The factors of a section, a listed one with a level for each value."""
    found = {}
    for name, levels in raw.items():
        if isinstance(levels, Mapping):
            found[name] = Factor(name, levels)
        else:
            found[name] = Factor(name, {level_name(value): {name: value} for value in levels})
    return found


def baseline_levels(design: Design, factors: Mapping[str, Factor], baseline: object) -> dict[str, str]:
    """The level of each factor in the baseline: as written, else the first; with `leave_one_out` the second."""
    written = baseline if isinstance(baseline, Mapping) else {}
    index = 1 if design == "leave_one_out" else 0
    return {
        name: level_name(written[name]) if name in written else list(factor.levels)[index]
        for name, factor in factors.items()
    }


def design_runs(
    design: Design, factors: Mapping[str, Factor], baseline: Mapping[str, str], generators: Sequence[str]
) -> list[DesignRun]:
    """The runs of a design, in the order in which they are trained.

    Args:
        design: which, but for `variants`, which has no factors.
        factors: by name.
        baseline: level of each factor.
        generators: of a fraction, valid.
    """
    short = short_names(factors)
    match design:
        case "full_factorial":
            combined = product(*(factor.levels for factor in factors.values()))
            points = [dict(zip(factors, levels, strict=True)) for levels in combined]
        case "fractional_factorial":
            points = _fraction(factors, generators)
        case _:
            points = [dict(baseline)]
            for name, factor in factors.items():
                points += [{**baseline, name: level} for level in factor.levels if level != baseline[name]]
    runs = []
    for levels in points:
        changed = [name for name in factors if levels[name] != baseline[name]]
        match design:
            case "leave_one_out":
                named = [f"without_{short[name]}" for name in changed]
            case "add_one_in":
                named = [f"with_{short[name]}" for name in changed]
            case _:
                named = [f"{short[name]}-{levels[name]}" for name in changed]
        runs.append(DesignRun("_".join(named) or BASELINE, levels))
    return runs


def _fraction(factors: Mapping[str, Factor], generators: Sequence[str]) -> list[dict[str, str]]:
    """The runs of a fraction in standard order: the first factor changes fastest."""
    letters = letters_of(factors)
    made = {left: (sign, right) for left, sign, right in map(parse_generator, generators)}
    free = [letter for letter in letters if letter not in made]
    points = []
    for signs in product((-1, 1), repeat=len(free)):
        sign_of = dict(zip(reversed(free), signs, strict=True))
        for letter, (sign, right) in made.items():
            sign_of[letter] = sign * prod(sign_of[other] for other in right)
        points.append({name: list(factors[name].levels)[sign_of[letter] > 0] for letter, name in letters.items()})
    return points


def letters_of(factors: Iterable[str]) -> dict[str, str]:
    """Letter -> factor: A is the first one."""
    return {chr(ord("A") + index): name for index, name in enumerate(factors)}


def parse_generator(text: str) -> tuple[str, int, str]:
    """`D = -ABC` as the letter that is set, the sign, and the letters it is the product of.

    Raises:
        ValueError: it is not a generator.
    """
    found = GENERATOR.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"expected a generator such as `D = ABC`, but got `{text}`")
    left, sign, right = found.groups()
    return left, -1 if sign else 1, right


def defining_words(generators: Sequence[str]) -> list[Word]:
    """The defining relation of a fraction: every product of generators, as a word that equals 1 in every run."""
    words = []
    for left, sign, right in map(parse_generator, generators):
        words.append(Word(frozenset(left + right), sign))
    found = []
    for count in range(1, len(words) + 1):
        for chosen in combinations(words, count):
            letters: frozenset[str] = frozenset()
            for word in chosen:
                letters ^= word.letters
            found.append(Word(letters, prod(word.sign for word in chosen)))
    return sorted(found, key=lambda word: (len(word.letters), sorted(word.letters)))


def resolution_of(generators: Sequence[str]) -> int | None:
    """The length of the shortest word: 3 (III) mixes main effects with two-way interactions, 4 (IV) these with each
    other. None without generators."""
    words = defining_words(generators)
    return len(words[0].letters) if words else None


def variants_of(ablation: Ablation) -> dict[str, dict[str, Any]]:
    """The runs of a design as the `variants` of a spec: name -> dotted path -> value. Empty with `variants`."""
    factors = factors_of(ablation.factors)
    found: dict[str, dict[str, Any]] = {}
    for run in runs_of(ablation):
        settings: dict[str, Any] = {}
        for name, level in run.levels.items():
            settings |= factors[name].levels[level]
        found[run.name] = settings
    return found


def runs_of(ablation: Ablation) -> list[DesignRun]:
    """The runs of a valid section; none with `variants`."""
    if ablation.design == "variants":
        return []
    factors = factors_of(ablation.factors)
    levels = baseline_levels(ablation.design, factors, ablation.baseline)
    return design_runs(ablation.design, factors, levels, ablation.generators)
