"""The tables of an explanation, which no terminal folds."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from sweeper.spec.objective import Objective
from sweeper.views import explain

DIFFERS = {"loss.lambda_param": 0.0117, "loss.lambda_joint": 24.6, "loss.lambda_angular": 0.114, "optim.lr": 0.00157}


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_id_or_number_is_folded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, width: int) -> None:
    rungs = [SimpleNamespace(rung_epoch=4.0, rank=3, of=5, value=19.737, cutoff=19.275, keep=False, front=None)]
    neighbours = [
        SimpleNamespace(
            trial=f"loss_balance-{n:04d}", distance=0.25, value=18.7 + n, state="COLLAPSED", differs=DIFFERS
        )
        for n in range(3)
    ]
    found: Any = SimpleNamespace(
        objective=Objective(metric="val/pa_mpjpe_mm", mode="min"),
        sentence="loss_balance-0011 was stopped.",
        rungs=rungs,
        evidence={},
        neighbours=neighbours,
        gradient_shares={"angular": (0.25, 0.5)},
    )
    file = (tmp_path / "out").open("w+")
    monkeypatch.setattr(
        explain, "output_console", lambda: Console(file=file, width=width, force_terminal=True, highlight=False)
    )
    explain.print_explanation(found)
    file.seek(0)
    lines = file.read().splitlines()
    assert all(len(line) <= width for line in lines), lines
    rows = [line for line in lines if line.lstrip().startswith("loss_balance-000")]
    assert len(rows) == 3
    for number, row in enumerate(rows):
        assert row.split()[0] == f"loss_balance-{number:04d}"
        assert f"{18.7 + number:.2f} mm" in row
        assert "COLLAPSED" in row
    assert any("19.74" in line and "19.27" in line and "stops" in line for line in lines)
