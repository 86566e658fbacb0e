"""Trials side by side in terminals of several widths."""

import pytest

from sweeper.views.compare import blocks
from sweeper.views.tables.columns import Column, lines_of


@pytest.mark.parametrize(
    ("width", "groups"), [(None, [4]), (120, [4]), (80, [2, 2]), (40, [1, 1, 1, 1]), (10, [1] * 4)]
)
def test_trials_that_do_not_fit_stand_below(width: int | None, groups: list[int]) -> None:
    names = Column("", ("state", "lambda_joint"), "left")
    trials = [Column(f"loss_balance_nightly-{number:04d}", ("COMPLETE", "0.0123")) for number in range(4)]
    found = blocks(names, trials, width)
    assert [len(block) for block in found] == groups
    assert [column for block in found for column in block] == trials
    if width and width >= 40:
        assert all(len(line) <= width for block in found for line in lines_of([names, *block]))
