"""What an ablation says: differences to the baseline, effects of factorials, and how it is printed."""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished import finish_study
from places import TESTS

from sweeper.analysis.ablation import AblationResult, ablation_result
from sweeper.analysis.design_power import design_power, design_power_text
from sweeper.analysis.statistics import ALPHA, detectable_effect, holm
from sweeper.cli import main as cli
from sweeper.errors import UserError
from sweeper.ledger.studies import open_study
from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.spec.design import runs_of
from sweeper.spec.load import parse_spec
from sweeper.spec.model import SpecFile
from sweeper.spec.resolve import SweepSpec
from sweeper.views.ablation import TOO_SMALL, render

Score = Callable[[Mapping[str, str], int], float | TrialState]
"""(levels of a run, seed) -> value at the end."""


@pytest.fixture(autouse=True)
def _trainer_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TESTS))


def spec_of(ablation: Mapping[str, Any], seeds: int) -> SweepSpec:
    data = {
        "name": "parts",
        "kind": "ablation",
        "trainer": "scripted_trainer:train",
        "ablation": ablation,
        "seeds": list(range(seeds)),
        "objective": {"metric": "val/pa_mpjpe_mm", "mode": "min"},
        "controls": [],
    }
    return parse_spec(json.dumps(data), Path("s.yaml"))


def result_of(home: Path, ablation: Mapping[str, Any], seeds: int, score: Score) -> AblationResult:
    """The result of an ablation whose runs score as given."""
    spec = spec_of(ablation, seeds)
    assert spec.ablation is not None

    levels = {run.name: run.levels for run in runs_of(spec.ablation)}
    finish_study(home, spec, lambda params: score(levels[params["variant"]], int(params["seed"])))
    ledger, recorded = open_study(home, "parts")
    return ablation_result("parts", recorded, ledger.trials())


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
    """The textbook's value, and a little that only the seed decides."""
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


def test_the_effects_of_its_half_fraction_and_what_they_are_mixed_with(tmp_path: Path) -> None:
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


SCALES = {"design": "one_at_a_time", "factors": {"scale": [1.0, 2.0, 3.0], "threads": [1, 2]}}


def noisy(levels: Mapping[str, str], seed: int) -> float:
    """2 mm for a larger scale; a seed moves all runs by much, and each by a little of its own."""
    own = np.random.default_rng([seed, *map(float.__int__, map(float, levels.values()))]).normal(0.0, 0.1)
    return 10.0 + 2.0 * (levels["scale"] != "1") + 3.0 * seed + float(own)


def test_pairs_over_seeds_see_what_means_alone_do_not(tmp_path: Path) -> None:
    result = result_of(tmp_path, SCALES, 5, noisy)
    rows = {row.variant: row for row in result.rows}
    assert list(rows) == ["baseline", "scale-2", "scale-3", "threads-2"]
    scale, threads = rows["scale-2"].comparison, rows["threads-2"].comparison
    assert rows["baseline"].comparison is None
    assert scale is not None
    assert threads is not None
    assert rows["scale-2"].runs.estimate.low < rows["baseline"].runs.estimate.mean  # the means' intervals overlap
    assert scale.difference.estimate.low < 2.0 < scale.difference.estimate.high
    assert scale.is_told_apart
    assert not threads.is_told_apart
    assert scale.p_holm > scale.difference.p
    assert any(line.startswith("baseline beats scale-2 by 2.") for line in result.sentences)
    assert any("threads-2" in line and " cannot be told apart: " in line for line in result.sentences)


def test_two_seeds_are_too_few_to_say(tmp_path: Path) -> None:
    result = result_of(tmp_path, SCALES, 2, noisy)
    comparison = result.rows[1].comparison
    assert comparison is not None
    assert math.isnan(comparison.p_holm)
    assert all(line.startswith(TOO_SMALL) for line in result.sentences)
    assert TOO_SMALL in render(result, "table")


def test_runs_that_collapsed_failed_or_are_to_come_are_counted(tmp_path: Path) -> None:
    def losing(levels: Mapping[str, str], seed: int) -> float | TrialState:
        if levels["scale"] == "3" and seed:
            return TrialState.COLLAPSED if seed == 1 else TrialState.FAILED
        return noisy(levels, seed)

    result = result_of(tmp_path, SCALES, 4, losing)
    row = next(row for row in result.rows if row.variant == "scale-3")
    assert (row.runs.runs, row.runs.collapsed, row.runs.failed, row.runs.estimate.n) == (4, 1, 2, 1)
    assert "scale-3: 1 collapsed (5-70 %), 2 failed of 4 runs" in result.sentences
    [line] = [line for line in render(result, "table").splitlines() if line.startswith("scale-3 ")]
    assert line.rstrip().endswith("1 of 4 (5-70 %), 2 failed")


def test_a_study_that_goes_on_says_what_is_to_come(tmp_path: Path) -> None:
    spec = spec_of(SCALES, 3)
    finish_study(tmp_path, spec, lambda params: 10.0 + params["seed"], trials=7)
    ledger, recorded = open_study(tmp_path, "parts")
    result = ablation_result("parts", recorded, ledger.trials())
    assert result.sentences[0] == "5 of 12 runs are still to come"
    assert [row.runs.runs for row in result.rows] == [3, 3, 1, 0]
    scale = result.rows[1].comparison
    assert scale is not None
    assert math.isnan(scale.p_holm)
    assert any(" differ by 0 mm with every seed: the seed changes nothing" in line for line in result.sentences)


NOTHING = {"design": "full_factorial", "factors": {"scale": [1.0, 2.0], "threads": [1, 2], "sleep_s": [0.0, 1.0]}}


def drawn(spec: SweepSpec, random: np.random.Generator, sizes: Mapping[str, float] | None = None) -> list[Any]:
    """Trials of a study whose runs are 10 mm, plus `sizes` by name of variant, plus a normal of 0.3 mm."""
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


def test_what_an_ablation_says_it_can_see_is_seen_4_times_in_5() -> None:
    """The difference printed as detectable, for the whole family, planted into one variant."""
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


def test_the_power_stands_before_the_tables(tmp_path: Path) -> None:
    result = result_of(tmp_path, SCALES, 5, noisy)
    lines = render(result, "table").splitlines()
    assert lines[1].startswith("power: 5 seeds show differences of variants from ")
    assert f"{result.power.corrected:.2f} mm after correction for 3 comparisons" in lines[1]
    assert lines[2].startswith("runs are paired by seed, a fixed rule")
    assert lines.index("variants") > 2
    assert result.opening[0] in render(result, "markdown")
    assert json.loads(render(result, "json"))["power"]["corrected"] == result.power.corrected


def test_collapses_count_as_the_constant_pose_beside_a_mean_over_the_others(tmp_path: Path) -> None:
    """A variant that is 1 mm better when it does not collapse, which it does in 3 of 8 runs."""

    def fragile(levels: Mapping[str, str], seed: int) -> float | TrialState:
        if levels["scale"] != "2":
            return noisy(levels, seed)
        return TrialState.COLLAPSED if seed < 3 else 9.0 + 3.0 * seed + 0.01 * seed**2

    spec = spec_of(SCALES, 8)
    assert spec.ablation is not None
    levels = {run.name: run.levels for run in runs_of(spec.ablation)}
    ledger = finish_study(tmp_path, spec, lambda params: fragile(levels[params["variant"]], int(params["seed"])))
    control = TrialRecord(
        "parts-constant_pose",
        0,
        {},
        TrialState.COMPLETE,
        control="constant_pose",
        reports=(Report(1, 1.0, {"val/pa_mpjpe_mm": 40.0}, None, 1),),
    )
    result = ablation_result("parts", spec, ledger.trials(), controls=[control])
    row = next(row for row in result.rows if row.variant == "scale-2")
    assert row.comparison is not None
    assert row.comparison.difference.estimate.mean < 0, "better over the seeds with which it did not collapse"
    counted = row.comparison.with_collapses
    assert counted is not None
    assert (counted.n, counted.mean > 5) == (8, True), "and worse over all of them"
    base = result.rows[0].runs.values
    expected = [(40.0 if seed < 3 else row.runs.values[seed]) - base[seed] for seed in range(8)]
    assert counted.mean == pytest.approx(np.mean(expected))
    [sentence] = [line for line in result.sentences if "scale-2" in line and "baseline" in line]
    assert "; with collapses as the constant pose, baseline is " in sentence
    assert "3 of 8 (14-69 %)" in render(result, "table")
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(render(result, "csv")))}
    assert float(rows["scale-2"]["with_collapses_difference"]) == counted.mean
    assert rows["scale-3"]["with_collapses_difference"] == ""
    unknown = ablation_result("parts", spec, ledger.trials())
    assert all(row.comparison is None or row.comparison.with_collapses is None for row in unknown.rows)


@pytest.fixture(scope="module")
def factorial(tmp_path_factory: pytest.TempPathFactory) -> AblationResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TESTS))
        home = tmp_path_factory.mktemp("factorial")
        ablation = {"design": "full_factorial", "factors": {"scale": [1.0, 2.0], "threads": [1, 2]}}
        return result_of(home, ablation, 4, noisy)


@pytest.mark.parametrize("width", [80, 120])
def test_no_name_or_number_of_a_table_is_folded_in_a_terminal(factorial: AblationResult, width: int) -> None:
    text = render(factorial, "table", width)
    tables = [
        block.splitlines() for block in text.split("\n\n") if block.startswith(("variants\n", "main", "interact"))
    ]
    tables = [[line for line in lines if not line.startswith("not shown: ")] for lines in tables]
    assert [len(lines) - 2 for lines in tables] == [
        len(factorial.rows),
        len(factorial.main_effects),
        len(factorial.interactions),
    ]
    assert max(len(line) for lines in tables for line in lines) <= width
    for row, line in zip(factorial.rows, tables[0][2:], strict=True):
        assert line.startswith(row.variant)
        assert factorial.objective.format(row.runs.estimate.mean) in line


def test_markdown_and_latex_hold_every_cell_of_every_table(factorial: AblationResult) -> None:
    markdown, latex = render(factorial, "markdown"), render(factorial, "latex")
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert len(rows) == (2 + 4) + (2 + 2) + (2 + 1)
    assert len({line.count(" | ") for line in rows[:6]}) == 1
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 3
    assert latex.count(r" \\") == (1 + 4) + (1 + 2) + (1 + 1)
    assert r"scale-2\_threads-2" in latex
    assert r"95 \% interval" in latex
    for line in factorial.sentences:
        assert line in markdown
        assert f"% {line}" in latex


def test_csv_and_json_hold_all_digits(factorial: AblationResult) -> None:
    rows = list(csv.DictReader(io.StringIO(render(factorial, "csv"))))
    assert [row["kind"] for row in rows] == ["variant"] * 4 + ["main effect"] * 2 + ["interaction"]
    data = json.loads(render(factorial, "json"))
    for row, written, source in zip(rows, data["rows"], factorial.rows, strict=False):
        assert float(row["mean"]) == written["estimate"]["mean"] == source.runs.estimate.mean
        assert len(written["runs"]["values"]) == 4
    assert rows[0]["difference"] == ""
    assert data["rows"][0]["comparison"] is None
    assert float(rows[6]["difference"]) == data["interactions"][0]["difference"]["estimate"]["mean"]


def test_the_verb_takes_a_study_or_its_spec_and_any_study_with_variants(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"name": "pair", "trainer": "scripted_trainer:train", "controls": [], "seeds": [0, 1, 2]}
    data |= {"variants": {"a": {}, "b": {"scale": 2.0}}, "objective": {"metric": "val/pa_mpjpe_mm", "mode": "min"}}
    file = tmp_path / "pair.yaml"
    file.write_text(json.dumps(data))
    finish_study(tmp_path, parse_spec(json.dumps(data), file), lambda params: 10.0 + 0.1 * params["seed"] ** 2)
    for name in ("pair", str(file)):
        assert cli.main(["ablate", name, "--home", str(tmp_path), "--baseline", "b"]) == 0
        assert "b (baseline)  3  10.17 mm" in capsys.readouterr().out
    assert cli.main(["ablate", "pair", "--home", str(tmp_path), "--baseline", "c"]) == 2
    assert capsys.readouterr().err == "error: no variant `c` in the study `pair`\nhelp: there are a, b\n"


def test_a_search_is_no_ablation() -> None:
    search = {"name": "toy", "search_space": {"scale": {"low": 0.5, "high": 2.0}}, "trials": 2}
    spec = SpecFile.model_validate(search | {"objective": {"metric": "val/pa_mpjpe_mm", "mode": "min"}})
    with pytest.raises(UserError, match="the study `toy` has no variants to compare"):
        ablation_result("toy", spec, [])


def test_the_plan_of_an_ablation_says_what_it_can_see(tmp_path: Path) -> None:
    spec = spec_of(SCALES | {"spread": 0.5}, 5)
    assumed = design_power(spec, tmp_path)
    assert assumed.spread == pytest.approx(0.5 * math.sqrt(2))
    assert assumed.one == pytest.approx(assumed.spread * detectable_effect(5))
    assert assumed.corrected == pytest.approx(assumed.spread * detectable_effect(5, 3))
    text = design_power_text(spec, assumed)
    assert "  runs        baseline, scale-2, scale-3, threads-2\n" in text
    assert f"  sees        differences from {assumed.one:.2f} mm on, 4 times in 5 (5 pairs)\n" in text
    assert "  spread      0.71 mm of paired differences (assumed: 0.5 over seeds, by the spec)" in text
    finish_study(tmp_path, spec, lambda params: float(np.random.default_rng(hash_of(params)).normal(10.0, 0.1)))
    measured = design_power(spec, tmp_path)
    assert measured.spread == pytest.approx(0.1 * math.sqrt(2), rel=0.5)
    assert measured.source == "measured in parts, 12 degrees of freedom"


def hash_of(params: Mapping[str, Any]) -> list[int]:
    return [*str(params["variant"]).encode(), int(params["seed"])]


def test_two_seeds_can_see_nothing_and_an_unknown_spread_is_told(tmp_path: Path) -> None:
    few = spec_of(SCALES, 2)
    assert "sees        nothing: n is too small to say anything with 2 seeds" in design_power_text(
        few, design_power(few, tmp_path)
    )
    unknown = spec_of(SCALES, 5)
    text = design_power_text(unknown, design_power(unknown, tmp_path))
    assert "differences from 1.68 standard deviations of the differences on" in text
    assert "spread      unknown" in text
