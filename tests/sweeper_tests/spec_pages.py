"""A good sweep file to spoil, and the error page of what comes out."""

from pathlib import Path

import pytest

from sweeper.errors import SpecError
from sweeper.spec.load import parse_spec

FILE = Path("s.yaml")
GOOD = """\
name: tiny
base:
  optim: {epochs: 2}
search_space:
  loss.lambda_joint: {low: 0.1, high: 10.0, log: true}
  optim.lr: {low: 1e-4, high: 1e-2, log: true}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 4
"""


def errors_of(text: str, *overrides: str) -> str:
    with pytest.raises(SpecError) as error:
        parse_spec(text, FILE, overrides)
    return error.value.render()


def page(what: str, where: str, help: str | None = None) -> str:
    return f"error: {what}\n  --> {where}" + (f"\nhelp: {help}" if help else "")
