"""The table of a second round, which no terminal folds."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from sweeper.analysis.statistics import estimate
from sweeper.spec.objective import Objective
from sweeper.views import winners


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_ids_and_numbers_are_complete_at_any_width(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, width: int) -> None:
    runs = SimpleNamespace(estimate=estimate([22.5, 22.75, 23.0]), losses_text="")
    candidates = [
        SimpleNamespace(trial=f"loss_balance-{number:04d}", selected=22.0 + number, runs=runs) for number in range(3)
    ]
    result: Any = SimpleNamespace(
        candidates=candidates,
        source="loss_balance",
        seeds=(3, 4, 5),
        winner=None,
        opening=["power: 3 seeds show differences of 0.70 mm or more"],
        objective=Objective(metric="val/pa_mpjpe_mm", mode="min"),
        verdict=["nothing is a winner"],
    )
    file = (tmp_path / "out").open("w+")
    monkeypatch.setattr(
        winners, "output_console", lambda: Console(file=file, width=width, force_terminal=True, highlight=False)
    )
    winners.print_winners(result)
    file.seek(0)
    lines = file.read().splitlines()
    rows = [line for line in lines if "loss_balance-000" in line]
    assert len(rows) == 3
    for number, row in enumerate(rows):
        assert f"loss_balance-{number:04d}" in row
        assert "22.75 mm" in row, "the mean stays"
        assert ("[22.13, 23.37]" in row) or width < 60
