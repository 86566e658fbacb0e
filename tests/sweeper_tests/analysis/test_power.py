"""Can an ablation see what it says it can, both in its plan and after it has run?"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ablations import SCALES, spec_of
from finished import finish_study

from sweeper.analysis.ablation import ablation_result
from sweeper.analysis.design_power import design_power, design_power_text
from sweeper.analysis.statistics import ALPHA, detectable_effect, holm
from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.spec.resolve import SweepSpec

NOTHING = {"design": "full_factorial", "factors": {"scale": [1.0, 2.0], "threads": [1, 2], "sleep_s": [0.0, 1.0]}}


def drawn(spec: SweepSpec, random: np.random.Generator, sizes: Mapping[str, float] | None = None) -> list[Any]:
    """Trials of a study whose runs give 10 mm, plus `sizes` by variant name, plus normal noise of 0.3 mm."""
    return [
        TrialRecord(
            f"parts-{number:04d}",
            number,
            {"variant": name, "seed": seed},
            TrialState.COMPLETE,
            reports=(
                Report(
                    1, 1.0, {"val/pa_mpjpe_mm": 10 + (sizes or {}).get(name, 0.0) + random.normal(0.0, 0.3)}, None, 1
                ),
            ),
        )
        for number, (name, seed) in enumerate((name, seed) for name in spec.variants for seed in spec.seeds)
    ]


@pytest.mark.slow
def test_a_factorial_without_any_effect_names_one_in_at_most_5_percent_of_studies() -> None:
    """Cells, main effects and interactions are one family."""
    spec, random, studies, false, each = spec_of(NOTHING, 4), np.random.default_rng(5), 600, 0, 0
    for _ in range(studies):
        result = ablation_result("parts", spec, drawn(spec, random))
        compared = [row.comparison for row in result.rows if row.comparison is not None]
        effects = (*result.main_effects, *result.interactions)
        assert result.power.comparisons == len(compared) + len(effects) == 7 + 3 + 3
        false += any(found.p_holm < ALPHA for found in (*compared, *effects))
        families = (compared, result.main_effects, result.interactions)
        each += any(min(holm([found.difference.p for found in family])) < ALPHA for family in families)
    assert false / studies <= ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / studies)
    assert each / studies > 0.08, "three families apart: why they are one"


def test_a_difference_called_detectable_is_found_4_times_in_5() -> None:
    """The difference printed as detectable, for the whole family, planted in one variant."""
    spec, random = spec_of(SCALES, 5), np.random.default_rng(6)
    spread = 0.3 * math.sqrt(2)
    planted = spread * detectable_effect(5, 3)
    found, printed = [], []
    for _ in range(500):
        result = ablation_result("parts", spec, drawn(spec, random, {"scale-2": planted}))
        printed.append(result.power.corrected)
        comparison = result.rows[1].comparison
        assert comparison is not None
        found.append(comparison.is_told_apart)
    assert np.median(printed) == pytest.approx(planted, rel=0.1), "from the spread that was measured"
    assert 0.8 - 0.05 < np.mean(found) < 0.8 + 0.07, "Holm's later steps are a little less strict than its first"


def test_the_plan_of_an_ablation_says_what_it_can_see(tmp_path: Path) -> None:
    spec = spec_of(SCALES | {"spread": 0.5}, 5)
    assumed = design_power(spec, tmp_path)
    assert assumed.spread == pytest.approx(0.5 * math.sqrt(2))
    assert assumed.one == pytest.approx(assumed.spread * detectable_effect(5))
    assert assumed.corrected == pytest.approx(assumed.spread * detectable_effect(5, 3))
    text = design_power_text(spec, assumed)
    assert "  runs        baseline, scale-2, scale-3, threads-2\n" in text
    assert f"  sees        differences of {assumed.one:.2f} mm or more, 4 times in 5 (5 pairs)\n" in text
    assert "  spread      0.71 mm of paired differences (0.5 over seeds assumed by the spec)" in text
    finish_study(tmp_path, spec, lambda params: float(np.random.default_rng(hash_of(params)).normal(10.0, 0.1)))
    measured = design_power(spec, tmp_path)
    assert measured.spread == pytest.approx(0.1 * math.sqrt(2), rel=0.5)
    assert measured.source == "measured in parts, 12 degrees of freedom"


def hash_of(params: Mapping[str, Any]) -> list[int]:
    return [*str(params["variant"]).encode(), int(params["seed"])]


def test_two_seeds_can_see_nothing_and_an_unknown_spread_is_reported(tmp_path: Path) -> None:
    few = spec_of(SCALES, 2)
    assert "sees        nothing: 2 seeds are too few to say anything" in design_power_text(
        few, design_power(few, tmp_path)
    )
    unknown = spec_of(SCALES, 5)
    text = design_power_text(unknown, design_power(unknown, tmp_path))
    assert "differences of 1.68 standard deviations of the differences or more" in text
    assert "spread      unknown" in text
