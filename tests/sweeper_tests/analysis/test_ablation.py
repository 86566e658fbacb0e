"""What an ablation says about its variants: differences from the baseline over the same seeds, how many runs count."""

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from ablations import SCALES, finish_ablation, noisy, result_of, spec_of
from finished import finish_study

from sweeper.analysis.ablation import ablation_result
from sweeper.cli import main as cli
from sweeper.errors import UserError
from sweeper.ledger.studies import open_study
from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.spec.load import parse_spec
from sweeper.spec.model import SpecFile
from sweeper.views.ablation import TOO_SMALL, render


def test_pairing_over_seeds_shows_what_means_alone_do_not(tmp_path: Path) -> None:
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


def test_two_seeds_are_too_few_to_say_anything(tmp_path: Path) -> None:
    result = result_of(tmp_path, SCALES, 2, noisy)
    comparison = result.rows[1].comparison
    assert comparison is not None
    assert math.isnan(comparison.p_holm)
    assert all(line.startswith(TOO_SMALL) for line in result.sentences)
    assert TOO_SMALL in render(result, "table")


def test_collapsed_and_failed_runs_are_counted(tmp_path: Path) -> None:
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


def test_an_unfinished_study_says_how_many_runs_are_still_to_come(tmp_path: Path) -> None:
    spec = spec_of(SCALES, 3)
    finish_study(tmp_path, spec, lambda params: 10.0 + params["seed"], trials=7)
    ledger, recorded = open_study(tmp_path, "parts")
    result = ablation_result("parts", recorded, ledger.trials())
    assert result.sentences[0] == "5 of 12 runs are still to come"
    assert [row.runs.runs for row in result.rows] == [3, 3, 1, 0]
    scale = result.rows[1].comparison
    assert scale is not None
    assert math.isnan(scale.p_holm)
    assert any(" differ by 0.00 mm with every seed: the seed changes nothing" in line for line in result.sentences)


def test_collapses_count_as_the_constant_pose_in_a_second_mean(tmp_path: Path) -> None:
    """A variant that is 1 mm better when it does not collapse, which it does in 3 of 8 runs."""

    def fragile(levels: Mapping[str, str], seed: int) -> float | TrialState:
        if levels["scale"] != "2":
            return noisy(levels, seed)
        return TrialState.COLLAPSED if seed < 3 else 9.0 + 3.0 * seed + 0.01 * seed**2

    spec = spec_of(SCALES, 8)
    ledger = finish_ablation(tmp_path, spec, fragile)
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
    assert capsys.readouterr().err == "error: no variant `c` in the study `pair`\nhelp: they are a, b\n"


def test_a_search_is_not_an_ablation() -> None:
    search = {"name": "toy", "search_space": {"scale": {"low": 0.5, "high": 2.0}}, "trials": 2}
    spec = SpecFile.model_validate(search | {"objective": {"metric": "val/pa_mpjpe_mm", "mode": "min"}})
    with pytest.raises(UserError, match="the study `toy` has no variants to compare"):
        ablation_result("toy", spec, [])
