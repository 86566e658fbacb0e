"""Finished ablations, for tests of the code that reads them: real ledgers, filled in without training."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from finished import finish_study

from sweeper.analysis.ablation import AblationResult, ablation_result
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.studies import open_study
from sweeper.ledger.trial import TrialState
from sweeper.spec.design import runs_of
from sweeper.spec.load import parse_spec
from sweeper.spec.resolve import SweepSpec

Score = Callable[[Mapping[str, str], int], float | TrialState]
"""(levels of a run, seed) -> value at the end."""
SCALES = {"design": "one_at_a_time", "factors": {"scale": [1.0, 2.0, 3.0], "threads": [1, 2]}}


def spec_of(ablation: Mapping[str, Any], seeds: int) -> SweepSpec:
    data = {
        "name": "parts",
        "kind": "ablation",
        "trainer": "scripted_trainer:train",
        "ablation": ablation,
        "seeds": list(range(seeds)),
        "objective": {"metric": "val/pa_mpjpe_mm", "mode": "min"},
        "controls": [],
    }
    return parse_spec(json.dumps(data), Path("s.yaml"))


def finish_ablation(home: Path, spec: SweepSpec, score: Score) -> Ledger:
    """A study whose runs score by their levels."""
    assert spec.ablation is not None
    levels = {run.name: run.levels for run in runs_of(spec.ablation)}
    return finish_study(home, spec, lambda params: score(levels[params["variant"]], int(params["seed"])))


def result_of(home: Path, ablation: Mapping[str, Any], seeds: int, score: Score) -> AblationResult:
    """The result of an ablation whose runs score as given, read back from its home."""
    finish_ablation(home, spec_of(ablation, seeds), score)
    ledger, recorded = open_study(home, "parts")
    return ablation_result("parts", recorded, ledger.trials())


def noisy(levels: Mapping[str, str], seed: int) -> float:
    """2 mm more for a larger scale; a seed moves all runs by a lot, and each by a little on its own."""
    own = np.random.default_rng([seed, *map(float.__int__, map(float, levels.values()))]).normal(0.0, 0.1)
    return 10.0 + 2.0 * (levels["scale"] != "1") + 3.0 * seed + float(own)
