"""Trials side by side in terminals of several widths."""

import pytest

from sweeper.analysis.compare import TrialComparison
from sweeper.views.compare import blocks, print_comparison
from sweeper.views.tables.columns import Column, lines_of


@pytest.mark.parametrize(
    ("width", "groups"), [(None, [4]), (120, [4]), (80, [2, 2]), (40, [1, 1, 1, 1]), (10, [1] * 4)]
)
def test_trials_that_do_not_fit_are_shown_below(width: int | None, groups: list[int]) -> None:
    names = Column("", ("state", "lambda_joint"), "left")
    trials = [Column(f"loss_balance_nightly-{number:04d}", ("COMPLETE", "0.0123")) for number in range(4)]
    found = blocks(names, trials, width)
    assert [len(block) for block in found] == groups
    assert [column for block in found for column in block] == trials
    if width and width >= 40:
        assert all(len(line) <= width for block in found for line in lines_of([names, *block]))


def test_what_a_trial_does_not_have_is_shown_as_a_dash(capfd: pytest.CaptureFixture[str]) -> None:
    comparison = TrialComparison(
        trials=("toy-0000", "toy-0001"),
        states=("COMPLETE", "PRUNED"),
        reasons=("", ""),
        varying={"model.layers": (None, 3), "data.flip": (True, False)},
        objective="val/pa_mpjpe_mm",
        curves=({1.0: 15.4}, {2.0: 16.25}),
        metrics={"val/pa_mpjpe_mm": (15.4, None)},
    )
    print_comparison(comparison)
    rows = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert ["layers", "-", "3"] in rows
    assert ["flip", "true", "false"] in rows
    assert ["val/pa_mpjpe_mm", "15.40", "-"] in rows
