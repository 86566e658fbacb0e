"""A spec with every kind of parameter, for each sampler."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mano_trainers.report import EpochReport
from sweeper.spec.resolve import SweepSpec

METRIC = "val/pa_mpjpe_mm"


SPACE = {
    "loss.a": {"low": 0.01, "high": 10.0, "log": True},
    "loss.b": {"low": 0.0, "high": 1.0},
    "net": {"choices": ["cnn", "vit"]},
    "layers": {"type": "int", "low": 1, "high": 6, "when": {"net": "vit"}},
    "step": {"low": 0.0, "high": 1.0, "step": 0.25, "when": {"layers": [1, 2, 3]}},
}


CONSTRAINTS = ["loss.a + loss.b >= 0.5", "layers * loss.b <= 3"]


OPTIONS: dict[str, dict[str, int]] = {
    "tpe": {"startup_trials": 3},
    "gp": {"startup_trials": 3},
    "nsga2": {"population": 3},
}


def train(config: dict[str, Any], workdir: Path, resume: Path | None = None) -> Iterator[EpochReport]:
    """A trainer without a model of its config, which therefore accepts every point."""
    raise NotImplementedError


def make_spec(sampler: str, /, **changes: Any) -> SweepSpec:
    data = {
        "name": "toy",
        "trainer": "proposals:train",
        "search_space": SPACE,
        "objective": {"metric": METRIC, "mode": "min"},
        "trials": 40,
        "sampler": {"name": sampler} | OPTIONS.get(sampler, {}),
    }
    return SweepSpec.model_validate(data | changes)
