"""A value of the objective reads the same wherever a user sees it."""

import re
from pathlib import Path

import pytest
from finished import finish_study

from sweeper.cli.main import main
from sweeper.spec.load import parse_spec
from sweeper.spec.objective import metric_number

SPEC = """\
name: one_number
base: {optim: {epochs: 2}}
search_space:
  optim.lr: {low: 0.001, high: 0.1, log: true}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 5
"""
VALUES = [18.6, 15.4, 16.352, 17.0, 22.118]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("one_number") / "home"
    values = iter(VALUES)
    finish_study(home, parse_spec(SPEC, Path("one_number.yaml")), lambda _: next(values))
    return home


@pytest.mark.parametrize(
    "command",
    [
        ["show", "one_number"],
        ["show", "one_number", "--format", "table"],
        ["list"],
        ["compare", "one_number:best", "one_number-0000"],
        ["explain", "one_number-0000"],
    ],
    ids=" ".join,
)
def test_values_in_a_terminal_have_two_decimals(
    home: Path, command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--home", str(home)]) == 0
    assert_two_decimals(capfd.readouterr().out)


def test_values_on_the_report_page_have_two_decimals(
    home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    assert main(["report", "one_number", "--home", str(home), "--out", str(page)]) == 0
    assert_two_decimals(re.sub(r'<script.*?</script>|data-\w+="[^"]*"', "", page.read_text(), flags=re.DOTALL))


def assert_two_decimals(text: str) -> None:
    assert "15.40" in text
    assert not re.findall(r"(?<![\d.])(?:18\.6|15\.4|16\.352|16\.4|17|17\.0|22\.118|22\.1)(?![\d.])", text), text


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("val/pa_mpjpe_mm", 15.4, "15.40"),
        ("val/pa_mpjpe_mm", 0.0094321, "0.0094"),
        ("val/pa_mpjpe_mm", -0.006702, "-0.0067"),
        ("val/pa_mpjpe_mm", 6.129e-06, "0.00"),
        ("val/pa_mpjpe_mm", -0.0, "0.00"),
        ("val/gap_mm", 0.0005, "0.0005"),
        ("val/pa_mpjpe_mm", float("nan"), "nan"),
        ("val/accuracy", 0.9134567, "0.9135"),
    ],
)
def test_a_metric_is_formatted_by_one_rule(metric: str, value: float, text: str) -> None:
    assert metric_number(metric, value) == text
