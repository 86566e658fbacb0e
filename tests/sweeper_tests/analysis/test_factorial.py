"""The effects of factorials and of their fractions, against a textbook."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from ablations import result_of

# Montgomery, Design and Analysis of Experiments, example 6.2: filtration rate of a pilot plant, factors A to D in
# standard order, with the effects of its table 6.12; and example 8.1, its half fraction D = ABC.
FIELDS = ("constant_mm", "sleep_s", "noise_mm", "scale")
RATES = [45, 71, 48, 65, 68, 60, 80, 65, 43, 100, 45, 104, 75, 86, 70, 96]
MAINS = [21.625, 3.125, 9.875, 14.625]
PAIRS = {"AB": 0.125, "AC": -18.125, "AD": 16.625, "BC": 2.375, "BD": -0.375, "CD": -1.125}
HALF_MAINS = [19.0, 1.5, 14.0, 16.5]
HALF_PAIRS = {"AB": (-1.0, "CD"), "AC": (-18.5, "BD"), "AD": (19.0, "BC")}
FACTORIAL = {"design": "full_factorial", "factors": {field: [1.0, 2.0] for field in FIELDS}}
NAMES = dict(zip("ABCD", FIELDS, strict=True))


def rate(levels: Mapping[str, str], seed: int) -> float:
    """The textbook's value, plus a little that depends on the seed alone."""
    return RATES[sum(2**index for index, field in enumerate(FIELDS) if levels[field] == "2")] + 0.125 * seed


def named(pair: str) -> str:
    return " x ".join(NAMES[letter] for letter in pair)


def test_the_effects_of_a_textbook_factorial(tmp_path: Path) -> None:
    result = result_of(tmp_path, FACTORIAL, 2, rate)
    assert [effect.difference.estimate.mean for effect in result.main_effects] == pytest.approx(MAINS)
    assert [effect.name for effect in result.main_effects] == [f"{field}: 2 against 1" for field in FIELDS]
    found = {effect.name: effect.difference.estimate.mean for effect in result.interactions}
    assert found == {named(pair): pytest.approx(size) for pair, size in PAIRS.items()}
    assert not any(effect.aliases for effect in (*result.main_effects, *result.interactions))


def test_the_effects_of_its_half_fraction_and_their_aliases(tmp_path: Path) -> None:
    fraction = FACTORIAL | {"design": "fractional_factorial", "generators": ["D = ABC"]}
    result = result_of(tmp_path, fraction, 2, rate)
    assert (result.resolution, len(result.rows)) == (4, 8)
    assert [effect.difference.estimate.mean for effect in result.main_effects] == pytest.approx(HALF_MAINS)
    found = {effect.name: (effect.difference.estimate.mean, effect.aliases) for effect in result.interactions}
    assert found == {named(pair): (pytest.approx(size), (named(alias),)) for pair, (size, alias) in HALF_PAIRS.items()}


def test_with_resolution_three_a_main_effect_names_its_interaction_and_sign(tmp_path: Path) -> None:
    fraction = {
        "design": "fractional_factorial",
        "factors": {field: [1.0, 2.0] for field in FIELDS[:3]},
        "generators": ["C = -AB"],
    }

    def both(levels: Mapping[str, str], seed: int) -> float:
        """Nothing but an interaction of A and B: it must show as the alias says, as minus the effect of C."""
        return 10.0 + (1.0 if levels[FIELDS[0]] == levels[FIELDS[1]] else -1.0)

    result = result_of(tmp_path, fraction, 3, both)
    assert (result.resolution, result.interactions) == (3, ())
    last = result.main_effects[2]
    assert last.aliases == (f"-{FIELDS[0]} x {FIELDS[1]}",)
    assert last.difference.estimate.mean == pytest.approx(-2.0)
    assert [effect.difference.estimate.mean for effect in result.main_effects[:2]] == pytest.approx([0.0, 0.0])
