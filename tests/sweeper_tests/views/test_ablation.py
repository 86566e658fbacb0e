"""How an ablation is printed: tables for a terminal and for a paper, and rows for scripts."""

import csv
import io
import json
from pathlib import Path

import pytest
from ablations import SCALES, noisy, result_of

from sweeper.analysis.ablation import AblationResult
from sweeper.views.ablation import render


@pytest.fixture(scope="module")
def factorial(tmp_path_factory: pytest.TempPathFactory) -> AblationResult:
    ablation = {"design": "full_factorial", "factors": {"scale": [1.0, 2.0], "threads": [1, 2]}}
    return result_of(tmp_path_factory.mktemp("factorial"), ablation, 4, noisy)


def test_the_power_is_shown_before_the_tables(tmp_path: Path) -> None:
    result = result_of(tmp_path, SCALES, 5, noisy)
    lines = render(result, "table").splitlines()
    assert lines[1].startswith("power: 5 seeds show differences of variants of ")
    assert f"{result.power.corrected:.2f} mm after correction for 3 comparisons" in lines[1]
    assert lines[2].startswith("runs are always paired by seed")
    assert lines.index("variants") > 2
    assert result.opening[0] in render(result, "markdown")
    assert json.loads(render(result, "json"))["power"]["corrected"] == result.power.corrected


@pytest.mark.parametrize("width", [80, 120])
def test_no_name_or_number_in_a_table_is_folded_in_a_terminal(factorial: AblationResult, width: int) -> None:
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
