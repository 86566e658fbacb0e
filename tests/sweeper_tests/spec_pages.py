"""Good sweep files to spoil, and the error pages that result."""

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
ABLATION = """\
name: parts
kind: ablation
base:
  optim: {epochs: 2}
ablation:
  design: one_at_a_time
  factors:
    loss.lambda_joint: [0.0, 5.0, 25.0]
    head:
      theta: {model.head: theta}
      six: {model.head: rot6d}
  baseline: {loss.lambda_joint: 5.0}
seeds: [0, 1, 2]
objective: {metric: val/pa_mpjpe_mm, mode: min}
"""
FRACTION = """\
name: parts
kind: ablation
ablation:
  design: fractional_factorial
  factors:
    loss.lambda_param: [0.5, 1.0]
    loss.lambda_joint: [1.0, 5.0]
    loss.lambda_angular: [0.0, 1.0]
    augment: [false, true]
  generators: [D = ABC]
seeds: [0, 1, 2]
objective: {metric: val/pa_mpjpe_mm, mode: min}
"""


def errors_of(text: str, *overrides: str) -> str:
    with pytest.raises(SpecError) as error:
        parse_spec(text, FILE, overrides)
    return error.value.render()


def page(what: str, where: str, help: str | None = None) -> str:
    return f"error: {what}\n  --> {where}" + (f"\nhelp: {help}" if help else "")
